// What the machine is: for the number of threads, for reports, and as the key of measured choices.
#pragma once
#include <cstddef>
#include <string>

namespace activsparse {

// Sizes in bytes of the data caches core 0 uses; 0 when the system does not tell.
struct CpuInfo {
  std::string name;
  int cores = 1;
  std::size_t l1d = 0, l2 = 0, l3 = 0;
};

// Reads /proc and /sys; what is missing there stays empty, 0 or 1. Never throws.
CpuInfo cpu_info();

// Cores this process may run on (taskset and cgroup cpusets respected), at least 1.
int usable_cores();

// Of these the physical ones, those that share a core's units counted once, and no more than the
// process group's CPU quota pays for, rounded up; at least 1. As many threads as compute faster.
int physical_cores();

}  // namespace activsparse

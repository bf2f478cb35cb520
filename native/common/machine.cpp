#include "common/machine.h"

#if defined(__linux__)
#include <sched.h>
#endif

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <vector>

namespace activsparse {
namespace {

// Calls visit(line) for the lines of a file until it returns true. C's files: C++'s would bring a
// quarter of a megabyte of locales into every library that is linked without libstdc++.
template <class Visit>
void each_line(const std::string& path, const Visit& visit) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "re"),
                                                             std::fclose);
  if (file == nullptr) return;
  std::string line;
  for (char part[256]; std::fgets(part, sizeof(part), file.get());) {
    line += part;
    if (line.back() != '\n') continue;
    line.pop_back();
    if (visit(line)) return;
    line.clear();
  }
  if (!line.empty()) visit(line);
}

std::string first_line(const std::string& path) {
  std::string first;
  each_line(path, [&](const std::string& line) {
    first = line;
    return true;
  });
  return first;
}

// The value of "key : value" in /proc/cpuinfo, of the first core that has it.
std::string cpuinfo_value(const std::string& key) {
  std::string found;
  each_line("/proc/cpuinfo", [&](const std::string& line) {
    const std::size_t colon = line.find(':');
    if (colon == std::string::npos || line.compare(0, key.size(), key) != 0) return false;
    const std::size_t key_end = line.find_last_not_of(" \t", colon - 1);
    const std::size_t value = line.find_first_not_of(" \t", colon + 1);
    if (key_end + 1 != key.size() || value == std::string::npos) return false;
    found = line.substr(value);
    return true;
  });
  return found;
}

// ARM kernels give numbers instead of a name: keep them all, they are the machine's identity.
std::string cpu_name() {
  for (const char* key : {"model name", "Model Name", "Hardware"}) {
    std::string name = cpuinfo_value(key);
    if (!name.empty()) {
      const std::string family = cpuinfo_value("cpu family"), model = cpuinfo_value("model");
      return model.empty() ? name : name + " (family " + family + ", model " + model + ")";
    }
  }
  const std::string part = cpuinfo_value("CPU part");
  if (part.empty()) return "unknown";
  return "ARM implementer " + cpuinfo_value("CPU implementer") + " part " + part + " variant " +
         cpuinfo_value("CPU variant") + " revision " + cpuinfo_value("CPU revision");
}

std::size_t bytes_of(const std::string& text) {  // "32K", "1024K", "32M"
  char* end = nullptr;
  const unsigned long long value = std::strtoull(text.c_str(), &end, 10);
  return static_cast<std::size_t>(value) << (*end == 'K'   ? 10
                                             : *end == 'M' ? 20
                                             : *end == 'G' ? 30
                                                           : 0);
}

// What a container may use, in CPUs; 0 where nothing limits it.
int quota() {
  long long microseconds = 0, period = 0;
  const std::string v2 = first_line("/sys/fs/cgroup/cpu.max");  // "200000 100000", "max 100000"
  if (!v2.empty()) {
    if (std::sscanf(v2.c_str(), "%lld %lld", &microseconds, &period) != 2) return 0;
  } else {
    microseconds = std::atoll(first_line("/sys/fs/cgroup/cpu/cpu.cfs_quota_us").c_str());
    period = std::atoll(first_line("/sys/fs/cgroup/cpu/cpu.cfs_period_us").c_str());
  }
  if (microseconds <= 0 || period <= 0) return 0;
  return static_cast<int>(std::min<long long>((microseconds + period - 1) / period, 1 << 20));
}

int online_cores() {
  const long cores = sysconf(_SC_NPROCESSORS_ONLN);
  return cores > 0 ? static_cast<int>(cores) : 1;
}

}  // namespace

int usable_cores() {
#if defined(__linux__)
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof(set), &set) == 0 && CPU_COUNT(&set) > 0) return CPU_COUNT(&set);
#endif
  return online_cores();
}

int physical_cores() {
  int found = usable_cores();
#if defined(__linux__)
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof(set), &set) == 0) {
    std::vector<std::string> cores;
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
      if (!CPU_ISSET(cpu, &set)) continue;
      const std::string name = std::to_string(cpu);
      const std::string siblings =
          first_line("/sys/devices/system/cpu/cpu" + name + "/topology/thread_siblings_list");
      cores.push_back(siblings.empty() ? "cpu " + name : siblings);
    }
    std::sort(cores.begin(), cores.end());
    cores.erase(std::unique(cores.begin(), cores.end()), cores.end());
    if (!cores.empty()) found = static_cast<int>(cores.size());
  }
  if (const int paid = quota()) found = std::min(found, paid);
#endif
  return found;
}

CpuInfo cpu_info() {
  CpuInfo info;
  info.name = cpu_name();
  info.cores = online_cores();
  for (int index = 0; index < 8; ++index) {
    const std::string folder =
        "/sys/devices/system/cpu/cpu0/cache/index" + std::to_string(index) + "/";
    const std::string type = first_line(folder + "type"), level = first_line(folder + "level");
    if (type != "Data" && type != "Unified") continue;
    const std::size_t size = bytes_of(first_line(folder + "size"));
    if (level == "1") info.l1d = size;
    if (level == "2") info.l2 = size;
    if (level == "3") info.l3 = size;
  }
  return info;
}

}  // namespace activsparse

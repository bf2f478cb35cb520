#include "common/machine.h"

#if defined(__linux__)
#include <sched.h>
#endif

#include <unistd.h>

#include <cstdlib>
#include <fstream>

namespace activsparse {
namespace {

std::string first_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

// The value of "key : value" in /proc/cpuinfo, of the first core that has it.
std::string cpuinfo_value(const std::string& key) {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    const std::size_t colon = line.find(':');
    if (colon == std::string::npos || line.compare(0, key.size(), key) != 0) continue;
    const std::size_t key_end = line.find_last_not_of(" \t", colon - 1);
    const std::size_t value = line.find_first_not_of(" \t", colon + 1);
    if (key_end + 1 == key.size() && value != std::string::npos) return line.substr(value);
  }
  return "";
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

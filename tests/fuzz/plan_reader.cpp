// Coverage-guided fuzzing of the plan reader, by libFuzzer: the bytes of a plan file whose
// checksum, sizes and maker are made to fit, so that what lies behind those checks is reached.
// Whatever is accepted runs once: it must stay inside its memory, which the address sanitizer
// watches.
//
//   cmake -S . -B build/fuzz-plans -DACTIVSPARSE_FUZZ=ON -DCMAKE_CXX_COMPILER=clang++-14
//   cmake --build build/fuzz-plans --target fuzz_plan_reader plan_forger
//   build/fuzz-plans/plan_forger --corpus FOLDER
//   build/fuzz-plans/fuzz_plan_reader -max_total_time=60 FOLDER
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "forged_plan.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t bytes) {
  using namespace activsparse;
  if (bytes < sizeof(PlanHeader)) return 0;
  Blob plan(data, data + bytes);
  PlanHeader header;
  std::memcpy(&header, plan.data(), sizeof(header));
  std::memcpy(header.magic, kPlanMagic, sizeof(header.magic));
  header.byte_order = kPlanByteOrder;
  header.format = kPlanFormat;
  header.file_bytes = bytes;
  std::memset(header.engine, 0, sizeof(header.engine));
  std::strncpy(header.engine, engine_version(), sizeof(header.engine) - 1);
  std::memset(header.build, 0, sizeof(header.build));
  std::strncpy(header.build, engine_build(), sizeof(header.build) - 1);
  std::memcpy(plan.data(), &header, sizeof(header));
  seal(plan);
  try_plan(plan);
  return 0;
}

// Forged plans: every field of the tables and of the operators' packed data of small networks is
// altered, alone and together with others, and the checksum made to fit. Each must be refused or
// run within its memory. Plans are tried in child processes, so that one that crashes or hangs is
// counted and named.
//
//   plan_forger [COUNT] [SEED]     at least COUNT plans; exits with 1 when one of them is a fault
//   plan_forger --corpus FOLDER    writes the sound plans, for a fuzzer to start from
//   plan_forger --one NAME SEED    tries one again in this process
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <random>

#include "forged_plan.h"
#include "small_plans.h"
#include "trials.h"

using namespace activsparse;

namespace {

// Where a field of 4 bytes may lie: the tables, and of every step the header and what is spread
// over the rest of its data.
std::vector<std::size_t> fields_of(const std::vector<uint8_t>& plan) {
  PlanHeader header;
  std::memcpy(&header, plan.data(), sizeof(header));
  std::vector<std::size_t> fields;
  const auto add = [&](std::size_t begin, std::size_t end, std::size_t step) {
    for (std::size_t at = begin / 4 * 4; at + 4 <= std::min(end, plan.size()); at += step)
      fields.push_back(at);
  };
  add(offsetof(PlanHeader, threads), offsetof(PlanHeader, engine), 4);
  add(offsetof(PlanHeader, inputs), sizeof(PlanHeader), 4);
  add(header.values.offset, header.names.offset, 4);
  std::vector<PlanStepRow> steps(header.steps.count);
  std::memcpy(steps.data(), plan.data() + header.steps.offset, steps.size() * sizeof(PlanStepRow));
  for (const PlanStepRow& step : steps) {
    add(step.data_offset, step.data_offset + std::min<std::size_t>(step.data_bytes, 1024), 4);
    const std::size_t end = step.data_offset + step.data_bytes;
    add(step.data_offset + 1024, end, std::max<std::size_t>(4, step.data_bytes / 64 / 4 * 4));
    if (step.data_bytes > 2048) add(end - 1024, end, 4);  // lists lie behind the weights
  }
  return fields;
}

// The same for the same seed.
Blob forge(const std::vector<uint8_t>& plan, const std::vector<std::size_t>& fields,
           std::uint64_t seed) {
  std::mt19937_64 random(seed);
  const auto below = [&](std::uint64_t most) { return random() % most; };
  Blob forged(plan.begin(), plan.end());
  // The first seeds go through all fields; later ones alter several.
  const std::size_t count = seed < fields.size() ? 1 : 1 + below(4);
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t at = seed < fields.size() ? fields[seed] : fields[below(fields.size())];
    std::int32_t value;
    std::memcpy(&value, forged.data() + at, 4);
    const auto u = static_cast<std::uint32_t>(value);
    const std::uint32_t other[] = {0,           1,
                                   ~0u,         0x80000000u,
                                   0x7fffffffu, u + 1,
                                   u - 1,       u * 2,
                                   u + 16,      u / 2,
                                   100,         0x10000,
                                   0x00ffffffu, u ^ 1u << below(32),
                                   u + 64,      static_cast<std::uint32_t>(random())};
    const std::uint32_t put = other[below(std::size(other))];
    std::memcpy(forged.data() + at, &put, 4);
  }
  seal(forged);
  return forged;
}

struct Plan {
  const char* name;
  std::vector<uint8_t> bytes;
};

std::vector<Plan> make_plans() {
  std::vector<Plan> plans;
  for (const small_plans::Network& network : small_plans::kAll) {
    SmallPlan plan(best_isa());
    network.build(plan);
    plans.push_back({network.name, plan.write()});
  }
  return plans;
}

int write_corpus(const std::vector<Plan>& plans, const std::string& folder) {
  for (const auto& [name, bytes] : plans) {
    std::FILE* file = std::fopen((folder + "/" + name + ".plan").c_str(), "wb");
    if (file == nullptr) return 1;
    std::fwrite(bytes.data(), 1, bytes.size(), file);
    std::fclose(file);
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<Plan> plans = make_plans();
  const std::string first = argc > 1 ? argv[1] : "0";
  if (first == "--corpus" && argc > 2) return write_corpus(plans, argv[2]);
  const bool one = first == "--one" && argc > 3;
  const std::uint64_t count = std::strtoull(first.c_str(), nullptr, 10);
  const std::uint64_t seed = one || argc > 2 ? std::strtoull(argv[one ? 3 : 2], nullptr, 10) : 0;
  Trials trials("plan_forger");
  for (const Plan& plan : plans) {
    if (try_plan(Blob(plan.bytes.begin(), plan.bytes.end())) != Verdict::kRan) {
      std::printf("%s: the sound plan does not run\n", plan.name);
      return 1;
    }
    const std::vector<std::size_t> fields = fields_of(plan.bytes);
    const auto forge_and_try = [&](std::uint64_t i) {
      return try_plan(forge(plan.bytes, fields, i));
    };
    if (!one)
      trials.run(plan.name, seed, count > 0 ? count / plans.size() + 1 : fields.size() + 2000,
                 forge_and_try);
    else if (plan.name == std::string(argv[2]))
      std::printf("verdict %d\n", static_cast<int>(forge_and_try(seed)));
  }
  return one ? 0 : trials.finish("forged plans");
}

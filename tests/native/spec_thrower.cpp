// Impossible specs through the C interface: of every kind and algorithm, sound specs are altered
// (attributes, sizes of tensors and arrays, types, numbers of tensors) and thrown at
// as_operator_create. Each must be refused, or run within arrays of the sizes it states.
//
//   spec_thrower [COUNT] [SEED]     exits with 1 when one is a fault
//   spec_thrower --one NAME SEED    throws one again in this process
#include <climits>
#include <cmath>
#include <cstdlib>
#include <cstring>

#include "activsparse.h"
#include "guarded.h"
#include "small_plans.h"
#include "trials.h"

using namespace activsparse;

namespace {

using Random = std::mt19937_64;

std::uint64_t below(Random& random, std::uint64_t most) { return random() % most; }

std::int64_t extreme(Random& random, std::int64_t sound) {
  const auto plus = [&](std::int64_t more) {  // wraps around
    return static_cast<std::int64_t>(static_cast<std::uint64_t>(sound) +
                                     static_cast<std::uint64_t>(more));
  };
  const std::int64_t values[] = {
      0,       1,        -1,          2,         -2,        3,
      INT_MIN, INT_MAX,  1LL << 31,   1LL << 40, INT64_MAX, INT64_MIN,
      plus(1), plus(-1), plus(sound), 65536,     100000,    plus(1LL << 32)};
  return values[below(random, std::size(values))];
}

template <class Map>
auto pick(Random& random, Map& map) {
  auto it = map.begin();
  std::advance(it, below(random, map.size()));
  return it;
}

void alter_tensor(Random& random, TensorDesc& t) {
  std::int32_t* const fields[] = {&t.n, &t.h, &t.w, &t.c, &t.stride, &t.nchw, &t.padded};
  std::int32_t& field = *fields[below(random, std::size(fields))];
  field = static_cast<std::int32_t>(extreme(random, field));
}

void alter(Random& random, OpSpec& spec) {
  static const char* const kNames[] = {
      "group",    "stride_h", "stride_w", "dilation_h", "dilation_w", "pad_top",
      "pad_left", "kernel_h", "kernel_w", "pad_bottom", "pad_right",  "scale_h",
      "scale_w",  "axis",     "x_offset", "y_offset",   "a_offset",   "count_include_pad"};
  static const char* const kPrefixes[] = {"", "", "", "pool.", "expand.", "depthwise.", "project."};
  switch (below(random, 7)) {
    case 0:
      if (spec.ints.empty()) break;
      pick(random, spec.ints)->second = extreme(random, pick(random, spec.ints)->second);
      break;
    case 1:
      spec.ints[std::string(kPrefixes[below(random, std::size(kPrefixes))]) +
                kNames[below(random, std::size(kNames))]] = extreme(random, 1);
      break;
    case 2:
      if (!spec.inputs.empty())
        alter_tensor(random, spec.inputs[below(random, spec.inputs.size())]);
      break;
    case 3:
      if (!spec.outputs.empty()) alter_tensor(random, spec.outputs[0]);
      break;
    case 4:
      if (spec.arrays.empty()) break;
      if (below(random, 4) == 0) {
        spec.arrays.erase(pick(random, spec.arrays));
      } else {
        ArrayView& array = pick(random, spec.arrays)->second;
        if (below(random, 4) == 0)
          array.dtype = "fib"[below(random, 3)];
        else if (below(random, 4) == 0)
          array.shape.push_back(1);
        else if (!array.shape.empty())
          array.shape[below(random, array.shape.size())] = extreme(random, array.shape[0]);
      }
      break;
    case 5: {
      const double values[] = {NAN, INFINITY, -INFINITY, 1e300, -1.0, 0.0};
      spec.strings["activation"] = below(random, 2) ? "clip" : "leaky_relu";
      spec.floats[below(random, 2) ? "lo" : "hi"] = values[below(random, std::size(values))];
      break;
    }
    default:
      if (below(random, 2) && !spec.inputs.empty())
        spec.inputs.push_back(spec.inputs[0]);
      else if (below(random, 2) && !spec.inputs.empty())
        spec.inputs.pop_back();
      else
        spec.outputs.push_back(spec.inputs.empty() ? TensorDesc{} : spec.inputs[0]);
  }
}

// Numbers for arrays of sizes that were altered: as many as stated, unless that is absurd.
struct Arrays {
  std::vector<std::vector<std::int32_t>> kept;
  const void* data_of(const ArrayView& sound, const ArrayView& array) {
    if (array.size() <= sound.size() && array.dtype == sound.dtype) return sound.data;
    kept.emplace_back(std::min<std::int64_t>(std::max<std::int64_t>(array.size(), 1), 1 << 20), 1);
    return kept.back().data();
  }
};

Verdict run(as_operator* op, const OpSpec& spec, int threads) {
  constexpr std::int64_t kMost = 1 << 22;
  std::deque<Guarded> arrays;
  std::vector<const float*> inputs;
  std::vector<float*> outputs;
  for (const auto* tensors : {&spec.inputs, &spec.outputs})
    for (const TensorDesc& tensor : *tensors)
      if (tensor_extent(tensor) > kMost) return Verdict::kTooLarge;
  for (const TensorDesc& tensor : spec.inputs) {
    arrays.emplace_back(tensor_extent(tensor) * sizeof(float));
    inputs.push_back(arrays.back().floats());
  }
  for (const TensorDesc& tensor : spec.outputs) {
    arrays.emplace_back(tensor_extent(tensor) * sizeof(float));
    outputs.push_back(arrays.back().floats());
  }
  const as_status status = as_operator_run(op, inputs.data(), outputs.data(), threads);
  return status == AS_OK ? Verdict::kRan : Verdict::kRefused;
}

// Through the C interface alone.
Verdict throw_spec(const OpSpec& sound, const OpSpec& spec, const char* algorithm) {
  Arrays arrays;
  as_spec* made = as_spec_new(spec.kind.c_str());
  for (const auto& [name, value] : spec.ints) as_spec_int(made, name.c_str(), value);
  for (const auto& [name, value] : spec.floats) as_spec_float(made, name.c_str(), value);
  for (const auto& [name, value] : spec.strings) as_spec_string(made, name.c_str(), value.c_str());
  for (const auto& [name, array] : spec.arrays)
    as_spec_array(made, name.c_str(),
                  array.dtype == 'f'   ? AS_FLOAT32
                  : array.dtype == 'i' ? AS_INT32
                                       : AS_UINT8,
                  arrays.data_of(sound.arrays.at(name), array),
                  static_cast<int>(array.shape.size()), array.shape.data());
  OpSpec stated = spec;
  const auto tensor_of = [](const TensorDesc& t) {
    return as_tensor{t.n, t.h, t.w, t.c, t.stride, t.nchw, t.padded};
  };
  for (TensorDesc& t : stated.inputs) {
    const as_tensor tensor = tensor_of(t);
    as_spec_input(made, &tensor);
    t.nchw = t.nchw != 0;
  }
  for (TensorDesc& t : stated.outputs) {
    const as_tensor tensor = tensor_of(t);
    as_spec_output(made, &tensor);
    t.nchw = t.nchw != 0;
  }
  as_operator* op = nullptr;
  Verdict verdict = Verdict::kRefused;
  if (as_operator_create(made, algorithm, nullptr, &op) == AS_OK) verdict = run(op, stated, 1);
  as_operator_free(op);
  as_spec_free(made);
  return verdict;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string first = argc > 1 ? argv[1] : "10000";
  const bool one = first == "--one" && argc > 3;
  const std::uint64_t count = std::strtoull(first.c_str(), nullptr, 10);
  const std::uint64_t seed = one || argc > 2 ? std::strtoull(argv[one ? 3 : 2], nullptr, 10) : 0;
  Trials trials("spec_thrower");
  for (const small_plans::Network& network : small_plans::kAll) {
    SmallPlan plan(best_isa());
    network.build(plan);
    const auto trial = [&](std::uint64_t i) {
      Random random(i);
      const OpSpec& sound = plan.specs()[i % plan.specs().size()];
      std::vector<const char*> algorithms = {nullptr};
      for (const OperatorType& type : operator_types())
        if (sound.kind == type.kind) algorithms.push_back(type.algorithm);
      OpSpec spec = sound;
      for (std::uint64_t n = 1 + below(random, 3); n > 0; --n) alter(random, spec);
      // One without a name times all, which takes long: seldom.
      const std::uint64_t named = below(random, 16) ? 1 + below(random, algorithms.size() - 1) : 0;
      return throw_spec(sound, spec, algorithms[named]);
    };
    if (!one)
      trials.run(network.name, seed, count / std::size(small_plans::kAll) + 1, trial);
    else if (network.name == std::string(argv[2]))
      std::printf("verdict %d: %s\n", static_cast<int>(trial(seed)), as_last_error());
  }
  return one ? 0 : trials.finish("impossible specs");
}

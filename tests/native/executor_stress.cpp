// Executors under load, for sanitizers: results must not depend on the number of threads, on other
// runs and executors at the same time, on threads shared with them, or on how a batch is divided.
// Exits with 0 when they do not.
#include <algorithm>
#include <cstdio>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "choose/choose.h"
#include "executor/executor.h"
#include "executor/timing.h"

using namespace activsparse;

namespace {

struct Packed {
  Blob blob;
  std::unique_ptr<Operator> op;
};

Packed pack(const OpSpec& spec, const char* algorithm, Isa isa) {
  const OperatorType& type = find_operator_type(spec.kind, algorithm);
  Packed packed{type.pack(spec, isa), nullptr};
  packed.op = type.create(BlobView(packed.blob.data(), packed.blob.size()), isa);
  return packed;
}

std::vector<float> random_floats(int64_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<float> uniform(-1.0f, 1.0f);
  std::vector<float> values(count);
  for (float& value : values) value = uniform(random);
  return values;
}

// convolution - silu of the sum with its input - max pool - global average pool, on odd sizes.
class Net {
 public:
  static constexpr int kParts = 5;

  explicit Net(unsigned seed) : x_(random_floats(kParts * tensor_extent(image_), seed)) {
    const std::vector<float> weight = random_floats(int64_t{image_.c} * image_.c * 9, seed + 1);
    OpSpec conv = spec_of("conv", {image_}, image_);
    conv.arrays["weight"] = {weight.data(), 'f', {image_.c, image_.c, 3, 3}};
    for (const char* pad : {"pad_top", "pad_left", "pad_bottom", "pad_right"}) conv.ints[pad] = 1;
    OpSpec add = spec_of("add", {image_, image_}, image_);
    add.strings["activation"] = "silu";
    OpSpec pool = spec_of("max_pool", {image_}, pooled_);
    for (const char* size : {"kernel_h", "kernel_w", "stride_h", "stride_w"}) pool.ints[size] = 2;
    const OpSpec global = spec_of("global_average_pool", {pooled_}, vector_);
    const Isa isa = best_isa();
    operators_.push_back(pack(conv, choose(conv, costs_of(isa)).algorithm, isa));
    for (const OpSpec& spec : {add, pool, global}) operators_.push_back(pack(spec, "vector", isa));
  }

  std::unique_ptr<Executor> executor(Workforce force) const {
    const int64_t room = (4 * tensor_extent(image_) + 63) / 64 * 64;
    std::vector<PlanTensor> tensors = {
        {image_, -1}, {image_, 0}, {image_, room}, {pooled_, 0}, {vector_, -1}};
    std::vector<PlanStep> steps = {{operators_[0].op.get(), {0}, {1}},
                                   {operators_[1].op.get(), {0, 1}, {2}},
                                   {operators_[2].op.get(), {2}, {3}},
                                   {operators_[3].op.get(), {3}, {4}}};
    return std::make_unique<Executor>(tensors, steps, std::vector<int>{0}, std::vector<int>{4},
                                      2 * room, std::move(force));
  }

  // Of the first parts of the input, as many as the executor takes.
  std::vector<float> run(Executor& executor, bool profile = false) const {
    return run_at(executor, 0, [&](const void* const* inputs, void* const* outputs) {
      if (profile)
        executor.profile(inputs, outputs, 2);
      else
        executor.run(inputs, outputs);
    });
  }

  // On threads that are not the engine's, some pieces one after the other.
  std::vector<float> run_on_threads(Executor& executor) const {
    const ParallelFor parallel = [](void (*body)(void*, std::size_t), int count, void* context) {
      std::vector<std::thread> threads;
      for (int i = 0; i < count; i += 2)
        threads.emplace_back([=] {
          body(context, i);
          if (i + 1 < count) body(context, i + 1);
        });
      for (std::thread& thread : threads) thread.join();
    };
    return run_at(executor, 0, [&](const void* const* inputs, void* const* outputs) {
      executor.run_on(parallel, inputs, outputs);
    });
  }

  // All parts, one by one.
  std::vector<float> expected() const {
    const auto one = executor({std::make_shared<ThreadPool>(1)});
    std::vector<float> all;
    for (int part = 0; part < kParts; ++part) {
      const std::vector<float> y = run_at(
          *one, part,
          [&](const void* const* inputs, void* const* outputs) { one->run(inputs, outputs); });
      all.insert(all.end(), y.begin(), y.end());
    }
    return all;
  }

 private:
  template <class Run>
  std::vector<float> run_at(const Executor& executor, int part, const Run& run) const {
    std::vector<float> y(executor.parts() * tensor_extent(vector_), NAN);
    const void* inputs[] = {x_.data() + part * tensor_extent(image_)};
    void* outputs[] = {y.data()};
    run(inputs, outputs);
    return y;
  }

  static OpSpec spec_of(const char* kind, std::vector<TensorDesc> inputs, TensorDesc output) {
    OpSpec spec;
    spec.kind = kind;
    spec.inputs = std::move(inputs);
    spec.outputs = {output};
    return spec;
  }

  const TensorDesc image_{2, 13, 19, 21, 21, 0, 0, DType::kFloat32};
  const TensorDesc pooled_{2, 6, 9, 21, 32, 0, 1, DType::kFloat32};
  const TensorDesc vector_{2, 1, 1, 21, 21, 0, 0, DType::kFloat32};
  std::vector<float> x_;
  std::vector<Packed> operators_;
};

// Whether the results are those of the first parts.
bool wrong(const std::vector<float>& results, const std::vector<float>& expected) {
  return !std::equal(results.begin(), results.end(), expected.begin());
}

}  // namespace

int main() {
  const Net first(1), second(2);
  const std::vector<float> expected[] = {first.expected(), second.expected()};
  std::atomic<int> faults{0};
  const auto at_once = [](int callers, const auto& load) {
    std::vector<std::thread> others;
    for (int i = 1; i < callers; ++i) others.emplace_back([&load, i] { load(i); });
    load(0);
    for (std::thread& other : others) other.join();
  };
  for (int threads : {1, 2, 3, 5}) {
    for (int parts : {1, 2, Net::kParts}) {
      // Executors that come and go, on one pool, on the process's, or on one each.
      for (int sharing : {0, 1, 2}) {
        const auto pool = std::make_shared<ThreadPool>(threads);
        at_once(2, [&](int caller) {
          const Net& net = caller == 0 ? first : second;
          for (int i = 0; i < 5; ++i) {
            const auto executor =
                net.executor({sharing == 0   ? pool
                              : sharing == 1 ? ThreadPool::of_process(threads)
                                             : std::make_shared<ThreadPool>(threads),
                              threads, parts});
            for (int j = 0; j < 10; ++j)
              faults += wrong(net.run(*executor, j % 5 == 4), expected[caller]);
          }
        });
      }
      // Several runs of one executor at once, and of another on the same threads.
      const auto pool = std::make_shared<ThreadPool>(3);
      const auto one = first.executor({pool, threads, parts, 2});
      const auto other = second.executor({pool, threads, parts, 3});
      at_once(5, [&](int caller) {
        for (int i = 0; i < 20; ++i)
          faults += caller % 2 == 0 ? wrong(first.run(*one), expected[0])
                                    : wrong(second.run(*other), expected[1]);
      });
      const auto foreign = first.executor({nullptr, threads, parts, 2});
      at_once(3, [&](int) {
        for (int i = 0; i < 10; ++i) faults += wrong(first.run_on_threads(*foreign), expected[0]);
      });
    }
  }
  std::printf("%d wrong results\n", faults.load());
  return faults != 0;
}

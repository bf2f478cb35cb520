// Executors under load, for sanitizers: results must not depend on the number of threads, on other
// executors that run at the same time, or on threads shared with them. Exits with 0 when they do
// not.
#include <cstdio>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "executor/executor.h"
#include "executor/fastest.h"
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
  explicit Net(unsigned seed) : x_(random_floats(tensor_extent(image_), seed)) {
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
    operators_.push_back(pack(conv, fastest_algorithm(conv, isa).c_str(), isa));
    for (const OpSpec& spec : {add, pool, global}) operators_.push_back(pack(spec, "vector", isa));
  }

  std::unique_ptr<Executor> executor(std::shared_ptr<ThreadPool> pool) const {
    const int64_t room = (tensor_extent(image_) + 15) / 16 * 16;
    std::vector<PlanTensor> tensors = {
        {image_, -1}, {image_, 0}, {image_, room}, {pooled_, 0}, {vector_, -1}};
    std::vector<PlanStep> steps = {{operators_[0].op.get(), {0}, {1}},
                                   {operators_[1].op.get(), {0, 1}, {2}},
                                   {operators_[2].op.get(), {2}, {3}},
                                   {operators_[3].op.get(), {3}, {4}}};
    return std::make_unique<Executor>(tensors, steps, std::vector<int>{0}, std::vector<int>{4},
                                      2 * room, std::move(pool));
  }

  std::vector<float> run(Executor& executor, bool profile = false) const {
    std::vector<float> y(tensor_extent(vector_), NAN);
    const void* inputs[] = {x_.data()};
    void* outputs[] = {y.data()};
    if (profile)
      executor.profile(inputs, outputs, 2);
    else
      executor.run(inputs, outputs);
    return y;
  }

 private:
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

}  // namespace

int main() {
  const Net first(1), second(2);
  const auto alone = std::make_shared<ThreadPool>(1);
  const std::vector<float> expected[] = {first.run(*first.executor(alone)),
                                         second.run(*second.executor(alone))};
  std::atomic<int> wrong{0};
  for (int threads : {1, 2, 3, 5}) {
    for (bool share : {false, true}) {
      const auto pool = std::make_shared<ThreadPool>(threads);
      const auto load = [&](const Net& net, const std::vector<float>& result) {
        for (int i = 0; i < 10; ++i) {
          const auto executor = net.executor(share ? pool : std::make_shared<ThreadPool>(threads));
          for (int j = 0; j < 20; ++j) wrong += net.run(*executor, j % 5 == 4) != result;
        }
      };
      std::thread other([&] { load(second, expected[1]); });
      load(first, expected[0]);
      other.join();
    }
    const auto executor = first.executor(std::make_shared<ThreadPool>(threads));
    const auto load = [&] {
      for (int i = 0; i < 100; ++i) wrong += first.run(*executor) != expected[0];
    };
    std::thread other(load);
    load();
    other.join();
  }
  std::printf("%d wrong results\n", wrong.load());
  return wrong != 0;
}

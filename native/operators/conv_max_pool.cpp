// conv_max_pool/winograd_stem: a network's first convolution and the max pooling after it, band by
// band: rows of the convolution are pooled while they are in the second-level cache, and never
// reach memory.
//
// A buffer holds the rows that are still to be pooled; the convolution sees it as if it were the
// whole output. Bands from `begin` on pool the windows that end in them. Those begin in rows of
// earlier bands, which are computed again where a thread's share begins.
#include <algorithm>
#include <cstring>
#include <functional>

#include "operators/pool_rows.h"
#include "operators/winograd_stem.h"

namespace activsparse::conv_max_pool {
namespace {

const char kPrefix[] = "pool.";

struct Header {
  uint64_t conv, conv_bytes, pool, pool_bytes;
  int32_t kernel_h, stride_h, pad_top, output_h;
};

class ConvMaxPool : public Operator {
 public:
  ConvMaxPool(const BlobView& blob, Isa isa)
      : h_(blob.header<Header>()),
        conv_({blob.array<uint8_t>(h_.conv, h_.conv_bytes), h_.conv_bytes}, isa),
        pool_(find_operator_type("max_pool", "vector")
                  .create({blob.array<uint8_t>(h_.pool, h_.pool_bytes), h_.pool_bytes}, isa)),
        rows_(conv_.params().output) {
    require_packed(int64_t{conv_.band_rows()} * (conv_.bands() - 1) < rows_.h &&
                   int64_t{conv_.band_rows()} * conv_.bands() >= rows_.h);
    for (int band = 0; band < conv_.bands(); ++band)
      require_packed(conv_.first_row(band) == band * conv_.band_rows());
    const TensorDesc input = pool_->inputs()[0], output = pool_->outputs()[0];
    require_packed(!conv_.masked() && !conv_.params().has_residual && fits(input, rows_) &&
                   output.h == h_.output_h);
    require_packed(h_.kernel_h >= 1 && h_.kernel_h <= kMostKernel && h_.stride_h >= 1 &&
                   h_.stride_h <= kMostKernel && h_.pad_top >= 0 && h_.pad_top <= kMostKernel &&
                   int64_t{h_.output_h} * h_.stride_h <= kMostReach);
    require_packed(conv_.parts() == 1);
    for (int row = 0; row < h_.output_h; ++row) {
      const InputRows seen = static_cast<const PoolOperator&>(*pool_).rows_of(row);
      const int64_t begin = int64_t{row} * h_.stride_h - h_.pad_top;
      require_packed(seen.begin >= begin && seen.end <= begin + h_.kernel_h);
    }
  }

  std::vector<TensorDesc> inputs() const override { return {conv_.params().input}; }
  std::vector<TensorDesc> outputs() const override { return pool_->outputs(); }

  int tasks(int) const override { return conv_.tasks(0); }
  std::size_t scratch_bytes() const override {
    return buffer_floats() * sizeof(float) + conv_.scratch_bytes();
  }
  std::size_t index_bytes() const override { return conv_.index_bytes(); }
  double macs() const override { return conv_.macs(); }
  std::string kernel() const override { return conv_.kernel(); }

  void run(const RunArgs& args, int, int begin, int end) const override {
    while (begin < end) {
      const int image = begin / conv_.bands(), first = begin % conv_.bands();
      const int last = std::min(conv_.bands(), first + end - begin);
      run_bands(args, image, first, last);
      begin += last - first;
    }
  }

 private:
  int64_t row_floats() const { return int64_t{rows_.w} * rows_.stride; }
  int64_t buffer_floats() const {
    return (int64_t{conv_.band_rows()} + h_.kernel_h - 1) * row_floats();
  }

  // Pooled rows whose windows end before a band.
  int pooled_before(int band) const {
    if (band == conv_.bands()) return h_.output_h;
    const int inside = band * conv_.band_rows() + h_.pad_top - h_.kernel_h + 1;
    return std::min(h_.output_h, (std::max(inside, 0) + h_.stride_h - 1) / h_.stride_h);
  }
  // The first row of a window.
  int window_begin(int pooled_row) const {
    return std::clamp(pooled_row * h_.stride_h - h_.pad_top, 0, rows_.h);
  }

  void run_bands(const RunArgs& args, int image, int first, int last) const {
    int row = pooled_before(first);
    const int stop = pooled_before(last);
    if (row == stop) return;
    first = std::min(first, window_begin(row) / conv_.band_rows());

    float* const buffer = reinterpret_cast<float*>(args.scratch);
    int base = first * conv_.band_rows();  // the row of the image at the start of the buffer
    void* rows;                            // where row 0 of image 0 would be, outside of the buffer
    const auto place = [&] {
      const int64_t floats = (int64_t{image} * rows_.h + base) * row_floats();
      rows = reinterpret_cast<void*>(reinterpret_cast<std::uintptr_t>(buffer) -
                                     static_cast<std::uintptr_t>(floats) * sizeof(float));
    };
    place();
    RunArgs conv = args, pool = args;
    conv.scratch = args.scratch + buffer_floats() * sizeof(float);
    conv.outputs = &rows;
    pool.inputs = &rows;
    const int before = image * conv_.bands();
    const auto pool_band = [&](int band) {
      const int ready = std::clamp(pooled_before(band + 1), row, stop);
      pool_->run(pool, 0, image * h_.output_h + row, image * h_.output_h + ready);
      row = ready;
      const int end = std::min(rows_.h, (band + 1) * conv_.band_rows());
      const int next = std::clamp(window_begin(row), base, end);
      std::memmove(buffer, buffer + (next - base) * row_floats(),
                   (end - next) * row_floats() * sizeof(float));
      base = next;
      place();
    };
    // By reference: a copy of what it captures would be allocated.
    conv_.run_bands(conv, before + first, before + last, std::ref(pool_band));
  }

  const Header& h_;
  const WinogradStem conv_;
  const std::unique_ptr<Operator> pool_;
  const TensorDesc rows_;  // between convolution and pooling
};

struct Stages {
  OpSpec conv, pool;
};

template <class Value>
void take(const std::map<std::string, Value>& from, std::map<std::string, Value>& to) {
  const std::string prefix = kPrefix;
  for (const auto& [name, value] : from)
    if (name.compare(0, prefix.size(), prefix) == 0) to[name.substr(prefix.size())] = value;
}

Stages stages_of(const OpSpec& spec) {
  const ArrayView* weight = spec.array("weight");
  if (weight == nullptr || weight->shape.size() != 4 || spec.inputs.size() != 1 ||
      spec.outputs.size() != 1)
    throw Error("conv_max_pool: it needs a weight (O, I, KH, KW), one input and one output");
  Stages stages;
  stages.conv = spec;
  stages.conv.threads = 1;  // whole bands
  stages.conv.kind = "conv";
  TensorDesc& between = stages.conv.outputs[0];
  const auto size = [&](int size, const char* pads[2], const char* stride, int64_t kernel) {
    const int64_t padding = spec.int_or(pads[0], 0) + spec.int_or(pads[1], 0);
    return static_cast<int32_t>(window_outputs(size, padding, kernel, spec.int_or(stride, 1), 1));
  };
  const char* vertical[] = {"pad_top", "pad_bottom"};
  const char* horizontal[] = {"pad_left", "pad_right"};
  between.h = size(spec.inputs[0].h, vertical, "stride_h", weight->shape[2]);
  between.w = size(spec.inputs[0].w, horizontal, "stride_w", weight->shape[3]);
  between.padded = 1;
  between.stride = static_cast<int32_t>(least_stride(between));
  between.nchw = 0;
  stages.pool.kind = "max_pool";
  take(spec.ints, stages.pool.ints);
  take(spec.floats, stages.pool.floats);
  take(spec.strings, stages.pool.strings);
  stages.pool.inputs = {between};
  stages.pool.outputs = spec.outputs;
  return stages;
}

const OperatorType& stem() { return find_operator_type("conv", "winograd_stem"); }

std::string unsupported(const OpSpec& spec, Isa isa) {
  if (spec.array("mask") != nullptr) return "the convolution is masked";
  if (spec.outputs[0].nchw) return "the output is NCHW";
  if (spec.int_or("pool.dilation_h", 1) != 1) return "the windows have gaps";
  for (const char* name : {"pool.stride_h", "pool.pad_top"})
    if (spec.int_or(name, 1) > kMostKernel) return "the windows are too far apart";
  return stem().unsupported(stages_of(spec).conv, isa);
}

Blob pack(const OpSpec& spec, Isa isa) {
  const Stages stages = stages_of(spec);
  const Blob conv = stem().pack(stages.conv, isa);
  const Blob pool = find_operator_type("max_pool", "vector").pack(stages.pool, isa);
  BlobWriter writer;
  writer.append<Header>(1);
  Header h{};
  h.conv = writer.append(conv.data(), conv.size());
  h.conv_bytes = conv.size();
  h.pool = writer.append(pool.data(), pool.size());
  h.pool_bytes = pool.size();
  const auto value = [&](const char* name, int64_t fallback) {
    return static_cast<int32_t>(stages.pool.int_or(name, fallback));
  };
  h.kernel_h = value("kernel_h", 0);
  h.stride_h = value("stride_h", 1);
  h.pad_top = value("pad_top", 0);
  h.output_h = spec.outputs[0].h;
  *writer.at<Header>(0) = h;
  return writer.take();
}

}  // namespace

std::vector<OperatorType> types() {
  return {{"conv_max_pool", "winograd_stem", unsupported, pack,
           [](const BlobView& blob, Isa isa) -> std::unique_ptr<Operator> {
             return std::make_unique<ConvMaxPool>(blob, isa);
           }}};
}

}  // namespace activsparse::conv_max_pool

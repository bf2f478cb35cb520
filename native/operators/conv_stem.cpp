// The first convolution of a network as an operator of its own, one output row per task; the maths
// is in stem_product.h.
#include <algorithm>
#include <numeric>

#include "operators/source_fill.h"
#include "operators/stem_product.h"

namespace activsparse::conv_stem {
namespace {

struct Header {
  ConvParams params;
  StemProductHeader product;
  SourceFillHeader fill;
  int32_t has_mask;
  uint64_t columns, kept;
};

class ConvStem : public ConvOperator {
 public:
  ConvStem(const BlobView& blob, Isa isa)
      : h_(conv_header<Header>(blob, true)),
        product_(blob, h_.product, h_.params, kernels_for(isa)),
        fill_(blob, h_.fill, h_.params.output) {
    const ConvParams& p = h_.params;
    if (h_.has_mask) {
      columns_ = blob.array<int32_t>(h_.columns, int64_t{p.output.h} * p.output.w);
      kept_ = blob.array<int32_t>(h_.kept, p.output.h);
      // Rising, for the product looks for the first one of a kind.
      for (int y = 0; y < p.output.h; ++y) {
        require_packed(kept_[y] >= 0 && kept_[y] <= p.output.w);
        const int32_t* row = columns_ + int64_t{y} * p.output.w;
        for (int i = 0; i < p.output.w; ++i)
          require_packed(row[i] >= 0 && row[i] < p.output.w &&
                         (i == 0 || i == kept_[y] || row[i - 1] < row[i]));
      }
    }
  }

  const ConvParams& params() const override { return h_.params; }
  int phases() const override { return fill_.empty() ? 1 : 2; }
  int tasks(int phase) const override {
    return phase == 0 ? h_.params.output.n * h_.params.output.h : SourceFill::kTasks;
  }
  double cost(int phase, int begin, int end) const override {
    if (phase > 0 || !h_.has_mask) return ConvOperator::cost(phase, begin, end);
    double kept = 0;
    for (int task = begin; task < end; ++task) kept += kept_[task % h_.params.output.h];
    return kept * product_.macs_per_pixel();
  }
  std::size_t scratch_bytes() const override { return product_.scratch_bytes(); }
  std::size_t index_bytes() const override {
    const TensorDesc& out = h_.params.output;
    return fill_.bytes() + (h_.has_mask ? sizeof(int32_t) * out.h * (out.w + std::size_t{1}) : 0);
  }
  double macs() const override {
    const TensorDesc& out = h_.params.output;
    double positions = double(out.h) * out.w;
    if (h_.has_mask) positions = std::accumulate(kept_, kept_ + out.h, 0.0);
    return positions * out.n * product_.macs_per_pixel();
  }
  std::string kernel() const override { return product_.kernel(); }

  void run(const RunArgs& args, int phase, int begin, int end) const override {
    if (phase == 1) return fill_.run(args.out(0), begin, end);
    const ConvParams& p = h_.params;
    for (int task = begin; task < end; ++task) {
      const int image = task / p.output.h, y = task % p.output.h;
      const auto windows = product_.load(
          args.in(0) + int64_t{image} * p.input.c * p.input.h * p.input.w, y, args.scratch);
      const int64_t pixel = int64_t{task} * p.output.w;
      const StemProduct::Row row{args.out(0) + pixel * p.output.stride, p.output.stride,
                                 p.has_residual ? args.in(1) + pixel * p.residual.stride : nullptr,
                                 p.residual.stride};
      const int32_t* columns = h_.has_mask ? columns_ + int64_t{y} * p.output.w : nullptr;
      const int kept = h_.has_mask ? kept_[y] : p.output.w;
      product_.run(windows, {columns, kept, 0}, row, false, args.scratch);
      if (kept < p.output.w && fill_.empty())
        product_.run(windows, {columns + kept, p.output.w - kept, 0}, row, true, args.scratch);
    }
  }

 private:
  const Header& h_;
  StemProduct product_;
  SourceFill fill_;
  const int32_t *columns_ = nullptr, *kept_ = nullptr;
};

Blob pack(const OpSpec& spec, Isa isa) {
  Header h{};
  h.params = conv_params_of(spec);
  const ConvParams& p = h.params;
  BlobWriter writer;
  writer.append<Header>(1);
  h.product = StemProduct::pack(writer, spec, p, kernels_for(isa));
  if (const ArrayView* array = spec.array("mask")) {
    // Of each row, the kept columns, then the skipped ones.
    const auto* mask = static_cast<const uint8_t*>(array->data);
    std::vector<int32_t> columns, kept;
    for (int y = 0; y < p.output.h; ++y, mask += p.output.w) {
      const std::size_t row = columns.size();
      for (int x = 0; x < p.output.w; ++x) columns.push_back(x);
      const auto end = std::stable_partition(columns.begin() + row, columns.end(),
                                             [&](int32_t x) { return mask[x] != 0; });
      kept.push_back(static_cast<int32_t>(end - columns.begin() - row));
    }
    h.has_mask = 1;
    h.columns = writer.append(columns.data(), columns.size());
    h.kept = writer.append(kept.data(), kept.size());
  }
  h.fill = SourceFill::pack(writer, spec);
  *writer.at<Header>(0) = h;
  return writer.take();
}

}  // namespace

std::vector<OperatorType> types() {
  return {{"conv", "stem", [](const OpSpec& spec, Isa) { return StemProduct::unsupported(spec); },
           pack,
           [](const BlobView& blob, Isa isa) -> std::unique_ptr<Operator> {
             return std::make_unique<ConvStem>(blob, isa);
           }}};
}

}  // namespace activsparse::conv_stem

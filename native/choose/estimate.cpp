#include "choose/estimate.h"

#include <algorithm>
#include <limits>

#include "choose/slim.h"

namespace activsparse {
namespace {

// How long `direct` takes over a multiply-add of a 1x1 convolution where `pointwise` takes one:
// under masks 1.1 to 1.3 in ResNet50 on a Zen 5. With a mask at the input it has fewer to do.
constexpr double kDirect1x1 = 1.15;

// Output channels `direct` computes at once, however few a group has.
constexpr int64_t kDirectChannels = 16;

// A multiply-add of float16, of which an instruction does twice as many, with what adding its sums
// to float32 ones costs on the way.
constexpr double kHalfMac = 0.55;

// What reading and writing a tap's sums adds to its products in `active_taps`, per input channel:
// measured as 6.5, 3 and 1 % with 64, 128 and 256 channels.
constexpr double kSums = 4.0;

}  // namespace

Work work_of(const OpSpec& spec, const OperatorType& type, Isa isa) {
  const SlimSpec copy = slim(spec, {"mask", "source", "input_mask"});
  if (!type.unsupported(copy.spec, isa).empty()) {
    constexpr double kNever = std::numeric_limits<double>::infinity();
    return {kNever, kNever, 0, false};
  }
  const Blob blob = type.pack(copy.spec, isa);
  const auto op = type.create(BlobView(blob.data(), blob.size()), isa);
  Work work{copy.share * op->macs(),
            copy.share * static_cast<double>(blob.size() - op->index_bytes()), 0, false};

  const double in = spec.inputs[0].c, out = spec.outputs[0].c;
  if (type.is_winograd()) {
    // The stem's input channels are those of the strided pixels.
    const auto stride = static_cast<double>(spec.int_or("stride_h", 1));
    work.channels = 1 / (type.is("winograd_stem") ? in * stride * stride : in) + 1 / out;
  }
  if (type.is("active_taps")) work.macs *= 1 + kSums / in;
  if (spec.inputs[0].dtype == DType::kFloat16) work.macs *= kHalfMac;
  if (type.is("direct") || type.is("direct_f16")) {
    const int64_t group = spec.int_or("group", 1), channels = spec.outputs[0].c / group;
    const int64_t whole = (channels + kDirectChannels - 1) / kDirectChannels * kDirectChannels;
    if (group > 1) work.macs *= static_cast<double>(whole) / static_cast<double>(channels);
    const std::vector<int64_t>& kernel = spec.array("weight")->shape;
    work.waits = kernel[2] != 1 || kernel[3] != 1;
    if (!work.waits) work.macs *= kDirect1x1;
  }
  return work;
}

double estimate(const Work& work, const Costs& costs) {
  const double fetching = costs.macs_per_byte * work.weight_bytes;
  const double waiting = work.waits ? costs.not_hidden * fetching : 0;
  return std::max(work.macs * (1 + costs.transforms * work.channels) + waiting, fetching);
}

}  // namespace activsparse

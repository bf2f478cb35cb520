#include "operators/operator.h"

#include <algorithm>

#include "kernels/kernels.h"
#include "operators/checks.h"

namespace activsparse {
namespace {

bool has_halves(const OpSpec& spec) {
  const auto is_half = [](const TensorDesc& t) { return t.dtype == DType::kFloat16; };
  return std::any_of(spec.inputs.begin(), spec.inputs.end(), is_half) ||
         std::any_of(spec.outputs.begin(), spec.outputs.end(), is_half);
}

}  // namespace

bool packs_halves(Isa isa) { return kernels_for(isa).halves_f16.sizes.max_vectors > 0; }

bool computes_halves(Isa isa) { return kernels_for(isa).halves_f16.tile[0][0] != nullptr; }

void require_halves(Isa isa) {
  if (!packs_halves(isa)) throw Error("the instruction set has no arithmetic in float16");
  if (computes_halves(isa)) return;
  for (Isa here : available_isas())
    if (isa == here)
      throw Error(
          "it computes in float16, for which this processor has no instructions (ARMv8.2 "
          "processors "
          "that have them say fphp and asimdhp in /proc/cpuinfo); compile the model in float32");
}

int64_t tensor_extent(const TensorDesc& desc) {
  if (desc.nchw) return desc.pixels() * desc.c;
  const int64_t owned = std::min<int64_t>(desc.stride, least_stride(desc));
  return desc.pixels() == 0 ? 0 : (desc.pixels() - 1) * desc.stride + owned;
}

bool fits(const TensorDesc& packed, const TensorDesc& tensor) {
  return packed.n == tensor.n && packed.h == tensor.h && packed.w == tensor.w &&
         packed.c == tensor.c && packed.nchw == tensor.nchw && packed.dtype == tensor.dtype &&
         (packed.nchw || (packed.stride == tensor.stride && packed.padded <= tensor.padded));
}

double Operator::cost(int phase, int begin, int end) const {
  constexpr double kMacsPerFloat = 8;  // what moves data is as long as its multiply-adds
  double all = macs();
  if (phase > 0 || all == 0) {
    all = 0;
    for (const TensorDesc& output : outputs())
      all += kMacsPerFloat * static_cast<double>(output.pixels()) * output.c;
  }
  return all * (end - begin) / std::max(1, tasks(phase));
}

std::string OperatorType::unsupported(const OpSpec& spec, Isa isa) const {
  const bool halves = has_halves(spec);
  if (halves && (types & bit(DType::kFloat16)) == 0) return "its tensors are float16";
  if (!halves && types == bit(DType::kFloat16)) return "its tensors are not float16";
  check_spec(spec, types);
  if (halves && !packs_halves(isa)) return "the instruction set has no arithmetic in float16";
  return reason(spec, isa);
}

Blob OperatorType::pack(const OpSpec& spec, Isa isa) const {
  check_spec(spec, types);
  return packer(spec, isa);
}

const OperatorType& find_operator_type(const std::string& kind, const std::string& algorithm) {
  for (const OperatorType& type : operator_types())
    if (kind == type.kind && algorithm == type.algorithm) return type;
  throw Error("no operator '" + kind + "' with algorithm '" + algorithm + "' in this build");
}

int64_t OpSpec::int_or(const char* name, int64_t fallback) const {
  auto found = ints.find(name);
  return found == ints.end() ? fallback : found->second;
}

double OpSpec::float_or(const char* name, double fallback) const {
  auto found = floats.find(name);
  return found == floats.end() ? fallback : found->second;
}

std::string OpSpec::string_or(const char* name, const char* fallback) const {
  auto found = strings.find(name);
  return found == strings.end() ? fallback : found->second;
}

const ArrayView* OpSpec::array(const char* name) const {
  auto found = arrays.find(name);
  return found == arrays.end() ? nullptr : &found->second;
}

const float* OpSpec::float_array(const char* name) const {
  const ArrayView* found = array(name);
  return found == nullptr ? nullptr : static_cast<const float*>(found->data);
}

}  // namespace activsparse

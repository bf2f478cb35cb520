// matmul: batches of matrix products of two views,
//   y[..., m, n] = activation(sum over k of a[..., m, k] * b[..., k, n]).
// A view has the axes (batches..., M, N, K), with stride 0 along the one it does not have. A task
// packs some columns of one right matrix as the convolutions' weights are packed, and multiplies
// all rows of the left one with them.
#include <array>

#include "operators/simple.h"
#include "operators/view_axes.h"

namespace activsparse::matmul {
namespace {

constexpr int64_t kTransposed = 16;  // rows that are transposed at once

struct Header {
  Epilogue epilogue;
  ViewAxes axes;
  TensorDesc output, input[2];

  // Why the views are no matrices to multiply; nullptr when they are.
  const char* fault() const {
    if (axes.rank < 3) return "shape must end with M, N and K";
    const auto* inner = axes.stride + axes.rank - 3;
    if (inner[2][0] != 0 || inner[1][1] != 0 || inner[0][2] != 0)
      return "a view has a stride along an axis that is not its own";
    const int64_t depth = axes.size[axes.rank - 1];
    if ((depth - 1) * std::max(inner[2][1], inner[2][2]) > INT32_MAX)
      return "a matrix is too large";
    return nullptr;
  }
};

const Header& checked_header(const BlobView& blob) {
  const Header& h = blob.header<Header>();
  require_packed(h.epilogue);
  require_packed(h.output);
  require_packed(h.axes.sound() && h.axes.stays_inside(0, tensor_extent(h.output)));
  for (int i = 0; i < 2; ++i) {
    require_packed(h.input[i]);
    require_packed(h.axes.stays_inside(1 + i, tensor_extent(h.input[i])));
  }
  require_packed(h.fault() == nullptr);
  return h;
}

class MatMul : public Operator {
 public:
  MatMul(const BlobView& blob, const Kernels& kernels)
      : h_(checked_header(blob)), kernels_(kernels), depth_(axis(2)) {
    // Whichever of y and its transpose has contiguous rows.
    if (stride(1, 0) != 1 && stride(0, 0) == 1) {
      std::swap(row_axis_, column_axis_);
      std::swap(left_, right_);
    }
    for (int i = 0; i < h_.axes.rank - 3; ++i) batches_ *= h_.axes.size[i];
    width_ = int64_t{kernels_.gemm_f32.sizes.usual_vectors()} * kernels_.width;
    panels_ = divide_up(axis(column_axis_), width_);
  }

  std::vector<TensorDesc> inputs() const override { return {h_.input, h_.input + 2}; }
  std::vector<TensorDesc> outputs() const override { return {h_.output}; }
  int tasks(int) const override { return static_cast<int>(batches_ * panels_); }
  std::string kernel() const override {
    return std::string(kernels_.isa) + " " +
           std::to_string(
               kernels_.gemm_f32.sizes.max_rows[kernels_.gemm_f32.sizes.usual_vectors() - 1]) +
           "x" + std::to_string(width_);
  }
  double macs() const override { return double(batches_) * axis(0) * axis(1) * depth_; }
  std::size_t scratch_bytes() const override {
    // The packed columns, a zero start, a tile of results, and where the channels of a row lie.
    return sizeof(float) * width_ * (depth_ + 1 + kMaxTileRows) + sizeof(int32_t) * depth_;
  }

  void run(const RunArgs& args, int, int begin, int end) const override {
    for (int task = begin; task < end; ++task) {
      std::array<int64_t, 3> at;
      std::copy_n(h_.axes.offset, at.size(), at.begin());
      int64_t rest = task / panels_;
      for (int i = h_.axes.rank - 4; i >= 0; --i) {
        for (std::size_t o = 0; o < at.size(); ++o)
          at[o] += rest % h_.axes.size[i] * h_.axes.stride[i][o];
        rest /= h_.axes.size[i];
      }
      const int64_t first = task % panels_ * width_;
      multiply(args.in(left_ - 1) + at[left_],
               args.in(right_ - 1) + at[right_] + first * stride(column_axis_, right_),
               args.out(0) + at[0] + first * stride(column_axis_, 0),
               std::min(width_, axis(column_axis_) - first),
               reinterpret_cast<float*>(args.scratch));
    }
  }

 private:
  // Axis 0, 1, 2: M, N, K.
  int64_t axis(int i) const { return h_.axes.size[h_.axes.rank - 3 + i]; }
  int64_t stride(int i, int operand) const { return h_.axes.stride[h_.axes.rank - 3 + i][operand]; }

  // All rows of a left matrix by `count` columns of a right one.
  void multiply(const float* left, const float* right, float* out, int64_t count,
                float* scratch) const {
    const int64_t vectors = divide_up(count, kernels_.width), padded = vectors * kernels_.width;
    float* const weights = scratch;
    float* const start = weights + depth_ * width_;
    float* const results = start + width_;
    auto* const distances = reinterpret_cast<int32_t*>(results + kMaxTileRows * width_);
    pack(right, count, padded, weights);
    std::fill_n(start, padded, 0.0f);

    const int64_t apart = axis(2) > 1 ? stride(2, left_) : 1;
    const bool contiguous = apart == 1, direct = stride(column_axis_, 0) == 1;
    if (!contiguous)
      for (int64_t k = 0; k < depth_; ++k) distances[k] = static_cast<int32_t>(k * apart);
    const GemmKernels& gemm = contiguous ? kernels_.gemm_f32 : kernels_.gather_gemm_f32;

    const float* rows[kMaxTileRows];
    float* outs[kMaxTileRows];
    GemmArgs args{};
    args.rows = rows;
    args.weights = &weights;
    args.taps = 1;
    args.channels = static_cast<int>(depth_);
    args.distances = distances;
    args.start = start;
    args.out = outs;
    args.epilogue = &h_.epilogue;
    args.lanes = args.store_lanes = static_cast<int>(count - (vectors - 1) * kernels_.width);
    const int64_t most = gemm.sizes.max_rows[vectors - 1], total = axis(row_axis_);
    for (int64_t row = 0; row < total; row += most) {
      const int64_t height = std::min(most, total - row);
      for (int64_t r = 0; r < height; ++r) {
        rows[r] = left + (row + r) * stride(row_axis_, left_);
        outs[r] = direct ? out + (row + r) * stride(row_axis_, 0) : results + r * padded;
      }
      gemm.tile[vectors - 1][height - 1](args);
      if (direct) continue;
      for (int64_t r = 0; r < height; ++r)
        for (int64_t i = 0; i < count; ++i)
          out[(row + r) * stride(row_axis_, 0) + i * stride(column_axis_, 0)] = outs[r][i];
    }
  }

  // Columns side by side for every k, zeros behind them.
  void pack(const float* right, int64_t count, int64_t padded, float* weights) const {
    const int64_t along = stride(2, right_), across = stride(column_axis_, right_);
    if (count < padded)
      for (int64_t k = 0; k < depth_; ++k)
        std::fill(weights + k * padded + count, weights + (k + 1) * padded, 0.0f);
    if (along == 1 && across > 1) {
      for (int64_t i = 0; i < count; i += kTransposed)
        kernels_.transpose_f32.run(right + i * across, across, std::min(kTransposed, count - i),
                                   depth_, weights + i, padded);
      return;
    }
    for (int64_t k = 0; k < depth_; ++k)
      for (int64_t i = 0; i < count; ++i) weights[k * padded + i] = right[k * along + i * across];
  }

  const Header& h_;
  const Kernels& kernels_;
  const int64_t depth_;
  int row_axis_ = 0, column_axis_ = 1, left_ = 1, right_ = 2;
  int64_t batches_ = 1, width_, panels_;
};

Blob pack(const OpSpec& spec, Isa) {
  require_counts(spec, 2);
  Header h{};
  h.epilogue = epilogue_of(spec);
  h.axes = ViewAxes::read(spec, {"a", "b"}, {});
  h.output = spec.outputs[0];
  std::copy(spec.inputs.begin(), spec.inputs.end(), h.input);
  if (const char* fault = h.fault()) require(spec, false, fault);
  return pack_header(h);
}

std::string any_layout(const OpSpec&, Isa) { return ""; }

}  // namespace

std::vector<OperatorType> types() { return simple_types<MatMul>("matmul", pack, any_layout); }

}  // namespace activsparse::matmul

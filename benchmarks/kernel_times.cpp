// How fast every register tile of the kernel table is, on data in the first two caches: one line of
// CSV per tile of a product, GFLOP/s and the share of the peak that multiply-adds on registers
// reach.
//
//   taskset -c 1 build/native/kernel_times [SET] [CHANNELS]
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "common/blob.h"
#include "common/isa.h"
#include "executor/timing.h"
#include "kernels/kernels.h"

using namespace activsparse;

namespace {

using Floats = std::vector<float, AlignedAllocator<float>>;
constexpr int kRounds = 15;

// The median of how many GFLOP/s calls of `flops` each reach.
template <class Call>
double gflops(double flops, const Call& call) {
  using Clock = std::chrono::steady_clock;
  const int calls = std::max(1, static_cast<int>(2e6 / flops));
  std::vector<double> rates;
  for (int round = 0; round < kRounds; ++round) {
    const Clock::time_point begin = Clock::now();
    for (int i = 0; i < calls; ++i) call();
    rates.push_back(1e-9 * flops * calls /
                    std::chrono::duration<double>(Clock::now() - begin).count());
  }
  std::nth_element(rates.begin(), rates.begin() + kRounds / 2, rates.end());
  return rates[kRounds / 2];
}

class Times {
 public:
  Times(Isa isa, int channels)
      : kernels_(kernels_for(isa)),
        channels_(channels),
        peak_(fma_peak_gflops(isa)),
        weights_(std::size_t{kMaxTileVectors} * kernels_.width * channels, 0.5f),
        x_(std::size_t{kMaxTileRows} * std::max(channels, kernels_.width), 0.5f),
        y_(std::size_t{kMaxTileRows} * kMaxTileVectors * kernels_.width) {
    for (int i = 0; i < channels; ++i) distances_.push_back(i);
  }

  void gemm(const char* family, const GemmKernels& kernels) const {
    for_tiles(family, kernels.sizes, [&](int vectors, int rows) {
      const Rows tile(*this, vectors, rows);
      const float* weights = weights_.data();
      const Epilogue epilogue;
      GemmArgs args{};
      args.rows = tile.in.data();
      args.weights = &weights;
      args.taps = 1;
      args.channels = channels_;
      args.distances = distances_.data();
      args.start = weights;
      args.out = tile.out.data();
      args.epilogue = &epilogue;
      args.lanes = args.store_lanes =
          &kernels == &kernels_.half_gemm_f32 ? kernels_.width / 2 : kernels_.width;
      const double lanes = (vectors - 1) * kernels_.width + args.lanes;
      return gflops(2 * rows * lanes * channels_,
                    [&] { kernels.tile[vectors - 1][rows - 1](args); });
    });
  }

  void taps() const {
    for_tiles("tap_product", kernels_.tap_product_f32.sizes, [&](int vectors, int rows) {
      const Rows tile(*this, vectors, rows);
      return gflops(2.0 * rows * vectors * kernels_.width * channels_, [&] {
        kernels_.tap_product_f32.tile[vectors - 1][rows - 1]({tile.in.data(), 0, weights_.data(),
                                                              channels_, tile.out.data(),
                                                              kernels_.width, weights_.data(), 0});
      });
    });
  }

  // Of 9 taps; the column of vectors is the logarithm of a group's channels.
  void grouped() const {
    for_tiles("grouped", kernels_.grouped_f32.sizes, [&](int log, int rows) {
      const int width = kernels_.width, group = 1 << log;
      const Floats weights(std::size_t{9} * group * width, 0.5f);
      const Rows tile(*this, 1, rows);
      std::vector<const float*> in;
      std::vector<int32_t> taps;
      for (int t = 0; t < 9; ++t) {
        in.insert(in.end(), tile.in.begin(), tile.in.end());
        taps.push_back(t);
      }
      const Epilogue epilogue;
      GroupedArgs args{};
      args.rows = in.data();
      args.weights = args.start = weights.data();
      args.tap_list = taps.data();
      args.taps = 9;
      args.tiles = 1;
      args.out = tile.out.data();
      args.epilogue = &epilogue;
      args.lanes = width;
      return gflops(2.0 * rows * group * width * 9,
                    [&] { kernels_.grouped_f32.tile[log - 1][rows - 1](args); });
    });
  }

  void winograd() {
    for_tiles("winograd_product", kernels_.winograd_product_f32.sizes, [&](int vectors, int rows) {
      const int64_t lanes = int64_t{vectors} * kernels_.width;
      return gflops(2.0 * rows * static_cast<double>(lanes) * channels_, [&] {
        kernels_.winograd_product_f32.tile[vectors - 1][rows - 1](x_.data(), channels_, channels_,
                                                                  weights_.data(), y_.data(), lanes,
                                                                  false, {weights_.data(), 0});
      });
    });
  }

 private:
  struct Rows {
    Rows(const Times& times, int vectors, int rows) {
      for (int r = 0; r < rows; ++r) {
        in.push_back(times.x_.data() + int64_t{r} * times.channels_);
        out.push_back(const_cast<float*>(times.y_.data()) +
                      int64_t{r} * vectors * times.kernels_.width);
      }
    }
    std::vector<const float*> in;
    std::vector<float*> out;
  };

  template <class Rate>
  void for_tiles(const char* family, const TileSizes& sizes, const Rate& rate) const {
    for (int vectors = 1; vectors <= sizes.max_vectors; ++vectors)
      for (int rows = 1; rows <= sizes.max_rows[vectors - 1]; ++rows) {
        const double found = rate(vectors, rows);
        std::printf("%s,%s,%d,%d,%d,%.1f,%.3f\n", kernels_.isa, family, vectors, rows,
                    rows == sizes.best_rows[vectors - 1], found, found / peak_);
      }
  }

  const Kernels& kernels_;
  int channels_;
  double peak_;
  Floats weights_, x_, y_;
  std::vector<int32_t> distances_;
};

}  // namespace

int main(int argc, char** argv) {
  const Isa isa = argc > 1 ? isa_from_name(argv[1]) : best_isa();
  const int channels = argc > 2 ? std::max(1, std::atoi(argv[2])) : 128;
  const Kernels& kernels = kernels_for(isa);
  Times times(isa, channels);
  std::printf("isa,family,vectors,rows,best,gflops,share_of_peak\n");
  times.gemm("gemm", kernels.gemm_f32);
  times.gemm("half_gemm", kernels.half_gemm_f32);
  times.gemm("gather_gemm", kernels.gather_gemm_f32);
  times.taps();
  times.grouped();
  times.winograd();
  return 0;
}

/* A masked 3x3 convolution through the C interface, against loops written here. Prints "ok", or
 * what is wrong. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "activsparse.h"

enum { N = 2, H = 9, W = 11, I = 20, O = 24 };

static float x[N * H * W * I], weight[O * I * 9], bias[O], y[N * H * W * O],
    expected[N * H * W * O];
static uint8_t mask[H * W];

static float next(void) { /* uniform in [-1, 1), the same on every machine */
  static uint32_t state = 12345;
  state = state * 1664525u + 1013904223u;
  return (float)(state >> 8) / 8388608.0f - 1.0f;
}

static void convolve(void) {
  for (int n = 0; n < N; ++n)
    for (int p = 0; p < H * W; ++p)
      for (int o = 0; o < O; ++o) {
        double sum = mask[p] ? bias[o] : 0.0;
        for (int t = 0; mask[p] && t < 9; ++t) {
          const int iy = p / W + t / 3 - 1, ix = p % W + t % 3 - 1;
          if (iy < 0 || ix < 0 || iy >= H || ix >= W) continue;
          for (int c = 0; c < I; ++c)
            sum += (double)x[((n * H + iy) * W + ix) * I + c] * weight[(o * I + c) * 9 + t];
        }
        expected[(n * H * W + p) * O + o] = sum > 0 ? (float)sum : 0.0f;
      }
}

static int fail(const char* what) {
  printf("%s: %s\n", what, as_last_error());
  return 1;
}

static as_spec* make_spec(void) {
  const as_tensor input = {N, H, W, I, I, 0, 0}, output = {N, H, W, O, O, 0, 0};
  const int64_t weight_shape[4] = {O, I, 3, 3}, bias_shape[1] = {O}, mask_shape[2] = {H, W};
  const char* const pads[4] = {"pad_top", "pad_left", "pad_bottom", "pad_right"};
  as_spec* spec = as_spec_new("conv");
  as_spec_input(spec, &input);
  as_spec_output(spec, &output);
  for (int i = 0; i < 4; ++i) as_spec_int(spec, pads[i], 1);
  as_spec_string(spec, "activation", "relu");
  as_spec_array(spec, "weight", AS_FLOAT32, weight, 4, weight_shape);
  as_spec_array(spec, "bias", AS_FLOAT32, bias, 1, bias_shape);
  as_spec_array(spec, "mask", AS_UINT8, mask, 2, mask_shape);
  return spec;
}

static int check(const char* algorithm, const char* isa) {
  const float* inputs[1] = {x};
  float* outputs[1] = {y};
  as_operator* op = NULL;
  as_spec* spec = make_spec();
  const as_status status = as_operator_create(spec, algorithm, isa, &op);
  as_spec_free(spec);
  if (status != AS_OK) return fail("create");
  if (as_operator_bytes(op) == 0) return fail("bytes");
  for (int threads = 1; threads <= 3; ++threads) {
    memset(y, 0xff, sizeof(y));
    if (as_operator_run(op, inputs, outputs, threads) != AS_OK) return fail("run");
    for (int i = 0; i < N * H * W * O; ++i)
      if (!(fabs(y[i] - expected[i]) < 1e-4)) {
        printf("%s on %s, element %d: %g instead of %g\n", as_operator_algorithm(op),
               isa ? isa : "best", i, y[i], expected[i]);
        return 1;
      }
  }
  if (as_operator_run(op, NULL, outputs, 1) != AS_INVALID) return fail("inputs NULL");
  if (as_operator_run(op, inputs, outputs, 0) != AS_INVALID) return fail("no threads");
  if (!strstr(as_last_error(), "threads")) return fail("error text");
  as_operator_free(op);
  return 0;
}

/* A quantised convolution: uint8 by int8, sums exact, so results are those or their neighbours. */
static int check_bytes(const char* isa) {
  enum { C = 16 };
  static uint8_t q[N * H * W * C], r[N * H * W * C];
  static int8_t w8[C * C * 9];
  static float scale[C];
  const as_tensor tensor = {N, H, W, C, C, 0, 0};
  const int64_t weight_shape[4] = {C, C, 3, 3}, scale_shape[1] = {C};
  const char* const pads[4] = {"pad_top", "pad_left", "pad_bottom", "pad_right"};
  const uint8_t* inputs[1] = {q};
  uint8_t* outputs[1] = {r};
  as_operator* op = NULL;
  as_spec* spec = as_spec_new("conv_u8");
  for (int i = 0; i < N * H * W * C; ++i) q[i] = (uint8_t)(128 + 127 * next());
  for (int i = 0; i < C * C * 9; ++i) w8[i] = (int8_t)(127 * next());
  for (int i = 0; i < C; ++i) scale[i] = 0.001f + 0.0001f * (float)i;
  as_spec_input_of(spec, AS_UINT8, &tensor);
  as_spec_output_of(spec, AS_UINT8, &tensor);
  for (int i = 0; i < 4; ++i) as_spec_int(spec, pads[i], 1);
  as_spec_int(spec, "input_zero", 120);
  as_spec_int(spec, "zero", 100);
  as_spec_float(spec, "lo", -100);
  as_spec_float(spec, "hi", 155);
  as_spec_array(spec, "weight", AS_INT8, w8, 4, weight_shape);
  as_spec_array(spec, "scale", AS_FLOAT32, scale, 1, scale_shape);
  if (as_operator_create(spec, NULL, isa, &op) != AS_OK) return fail("create on bytes");
  if (as_operator_run(op, (const float* const*)inputs, (float* const*)outputs, 2) != AS_OK)
    return fail("run on bytes");
  for (int i = 0; i < N * H * W * C; ++i) {
    const int n = i / (H * W * C), p = i / C % (H * W), o = i % C;
    int sum = 0;
    for (int t = 0; t < 9; ++t) {
      const int iy = p / W + t / 3 - 1, ix = p % W + t % 3 - 1;
      if (iy < 0 || ix < 0 || iy >= H || ix >= W) continue;
      for (int c = 0; c < C; ++c)
        sum += (q[((n * H + iy) * W + ix) * C + c] - 120) * w8[(o * C + c) * 9 + t];
    }
    const double real = fmin(fmax(sum * (double)scale[o], -100), 155) + 100;
    if (!(fabs(r[i] - real) < 0.501)) {
      printf("bytes on %s, element %d: %d instead of %g\n", isa, i, r[i], real);
      return 1;
    }
  }
  as_operator_free(op);
  if (as_spec_input_of(spec, AS_INT8, &tensor) != AS_INVALID) return fail("an int8 tensor");
  if (as_spec_array(spec, "a", AS_INT64, w8, 1, scale_shape) != AS_INVALID)
    return fail("an int64 array");
  as_spec_free(spec);
  return 0;
}

static int check_errors(void) {
  as_operator* op = (as_operator*)&op;
  as_spec* spec = make_spec();
  if (as_operator_create(spec, "no such algorithm", NULL, &op) != AS_INVALID || op != NULL)
    return fail("algorithm");
  if (as_operator_create(spec, NULL, "mmx", &op) != AS_INVALID) return fail("isa");
  if (as_spec_array(spec, "bias", AS_FLOAT32, NULL, 1, (const int64_t[]){O}) != AS_INVALID)
    return fail("no data");
  if (as_spec_int(spec, "stride_h", 1) != AS_OK) return fail("int");
  if (as_operator_create(spec, NULL, NULL, &op) != AS_INVALID)
    return fail("a failed builder is remembered");
  if (!strstr(as_last_error(), "data")) return fail("error text");
  as_spec_free(spec);
  if (as_spec_new(NULL) != NULL || as_spec_int(NULL, "a", 1) != AS_INVALID)
    return fail("NULL spec");
  as_spec_free(NULL);
  as_operator_free(NULL);
  return 0;
}

int main(void) {
  for (int i = 0; i < N * H * W * I; ++i) x[i] = next();
  for (int i = 0; i < O * I * 9; ++i) weight[i] = next();
  for (int i = 0; i < O; ++i) bias[i] = next();
  for (int i = 0; i < H * W; ++i) mask[i] = next() < 0.4f;
  convolve();
  if (as_version()[0] == '\0' || as_isa_count() < 1 || as_isa_name(-1) ||
      as_isa_name(as_isa_count())) {
    printf("version or instruction sets\n");
    return 1;
  }
  for (int i = 0; i < as_isa_count(); ++i)
    if (check(NULL, as_isa_name(i)) || check("reference", as_isa_name(i)) ||
        check_bytes(as_isa_name(i)))
      return 1;
  if (check(NULL, NULL) || check_errors()) return 1;
  printf("ok %s\n", as_version());
  return 0;
}

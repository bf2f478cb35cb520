/* Runs compiled plans and compares their outputs with recorded ones: `plan_cases FOLDER [THREADS]`.
 *
 * FOLDER/cases.txt has the name of a case per line. NAME.plan is the plan, NAME.in all inputs,
 * NAME.out all outputs and then the absolute error allowed for each of their values; float32, one
 * after the other. Prints every case that fails and the number of those that hold; returns 1 if any
 * fails. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "activsparse.h"

enum { MAX_VALUES = 8 };

static float* read_floats(const char* folder, const char* name, const char* end, size_t count) {
  char path[1024];
  FILE* file;
  float* values = malloc(sizeof(float) * (count + 1));
  snprintf(path, sizeof(path), "%s/%s.%s", folder, name, end);
  file = fopen(path, "rb");
  if (file == NULL || values == NULL || fread(values, sizeof(float), count + 1, file) != count) {
    fprintf(stderr, "%s: does not hold %zu floats\n", path, count);
    exit(2);
  }
  fclose(file);
  return values;
}

static size_t elements(const as_plan* plan, size_t count,
                       as_status (*describe)(const as_plan*, size_t, as_value*)) {
  size_t total = 0;
  for (size_t i = 0; i < count; ++i) {
    as_value value;
    if (describe(plan, i, &value) != AS_OK) exit(2);
    total += value.elements;
  }
  return total;
}

static int run_case(const char* folder, const char* name, int threads) {
  char path[1024];
  as_plan* plan = NULL;
  as_context* context = NULL;
  size_t inputs, outputs, wrong = 0, at = 0;
  float *x, *expected, *y;
  const float* in[MAX_VALUES];
  float* out[MAX_VALUES];
  double worst = 0; /* in units of what is allowed */
  snprintf(path, sizeof(path), "%s/%s.plan", folder, name);
  if (as_plan_load(path, &plan) != AS_OK || as_context_create(plan, threads, &context) != AS_OK) {
    printf("%s: %s\n", name, as_last_error());
    return 1;
  }
  inputs = elements(plan, as_plan_input_count(plan), as_plan_input);
  outputs = elements(plan, as_plan_output_count(plan), as_plan_output);
  x = read_floats(folder, name, "in", inputs);
  expected = read_floats(folder, name, "out", 2 * outputs);
  y = malloc(sizeof(float) * (outputs + 1));
  for (size_t i = 0; i < outputs; ++i) y[i] = NAN;
  for (size_t i = 0; i < as_plan_input_count(plan) && i < MAX_VALUES; ++i) {
    as_value value;
    as_plan_input(plan, i, &value);
    in[i] = x + at;
    at += value.elements;
  }
  at = 0;
  for (size_t i = 0; i < as_plan_output_count(plan) && i < MAX_VALUES; ++i) {
    as_value value;
    as_plan_output(plan, i, &value);
    out[i] = y + at;
    at += value.elements;
  }
  if (as_context_run(context, in, out) != AS_OK) {
    printf("%s: %s\n", name, as_last_error());
    wrong = 1;
  } else {
    for (size_t i = 0; i < outputs; ++i) {
      const double error = fabs((double)y[i] - (double)expected[i]),
                   allowed = expected[outputs + i];
      if (y[i] == expected[i]) continue; /* infinities */
      if (!(error <= allowed)) ++wrong;
      if (!(error <= worst * allowed)) worst = error / allowed;
    }
    if (wrong > 0)
      printf("%s: %zu of %zu values are off, by up to %g times the tolerance\n", name, wrong,
             outputs, worst);
  }
  as_context_free(context);
  as_plan_free(plan);
  free(x);
  free(expected);
  free(y);
  return wrong > 0;
}

int main(int argc, char** argv) {
  char path[1024], name[256];
  int held = 0, failed = 0;
  FILE* list;
  if (argc < 2) return 2;
  snprintf(path, sizeof(path), "%s/cases.txt", argv[1]);
  list = fopen(path, "r");
  if (list == NULL) return 2;
  while (fscanf(list, "%255s", name) == 1) {
    const int bad = run_case(argv[1], name, argc > 2 ? atoi(argv[2]) : 1);
    failed += bad;
    held += !bad;
  }
  fclose(list);
  printf("%d hold, %d fail\n", held, failed);
  return failed > 0 || held == 0;
}

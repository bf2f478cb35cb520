/* Classifies an image with a compiled plan, in plain C:
 *
 *   activsparse compile resnet18.onnx --out resnet18.plan
 *   classify resnet18.plan cat.ppm [labels.txt]
 *
 * The image is a binary PPM or PGM, or raw float32 values in the network's own layout (a file that
 * ends in .raw). labels.txt has one class name per line. Prints the five highest outputs. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "activsparse.h"
#include "image.h"

enum { TOP = 5, LABEL = 80 };

static int ends_with(const char* text, const char* end) {
  const size_t length = strlen(text), tail = strlen(end);
  return length >= tail && strcmp(text + length - tail, end) == 0;
}

static float* read_raw(const char* path, size_t count) {
  FILE* file = fopen(path, "rb");
  float* values = malloc(sizeof(float) * count);
  const size_t got = file && values ? fread(values, sizeof(float), count, file) : 0;
  const int more = got == count && fgetc(file) != EOF;
  if (file != NULL) fclose(file);
  if (got == count && !more) return values;
  fprintf(stderr, "%s: does not hold the %zu float32 values the network takes\n", path, count);
  free(values);
  return NULL;
}

static float* read_input(const char* path, const as_value* input) {
  /* What networks trained on ImageNet expect; grey images are taken as they are. */
  static const float mean3[3] = {0.485f, 0.456f, 0.406f}, std3[3] = {0.229f, 0.224f, 0.225f};
  static const float mean1[1] = {0.0f}, std1[1] = {1.0f};
  if (ends_with(path, ".raw")) return read_raw(path, input->elements);
  if (input->rank != 4 || input->shape[0] != 1 || (input->shape[1] != 1 && input->shape[1] != 3)) {
    fprintf(stderr, "the network's input '%s' is not one image; give its values as a .raw file\n",
            input->name);
    return NULL;
  }
  return read_image(path, (int)input->shape[1], (int)input->shape[2], (int)input->shape[3],
                    input->shape[1] == 3 ? mean3 : mean1, input->shape[1] == 3 ? std3 : std1);
}

/* Line `number` of a file, "" where there is none. */
static void read_label(const char* path, size_t number, char label[LABEL]) {
  FILE* file = path ? fopen(path, "r") : NULL;
  size_t line = 0;
  int c, length = 0;
  while (file != NULL && line <= number && (c = fgetc(file)) != EOF) {
    if (c == '\n')
      ++line;
    else if (line == number && length < LABEL - 1)
      label[length++] = (char)c;
  }
  label[length] = '\0';
  if (file != NULL) fclose(file);
}

static void print_top(const float* scores, size_t count, const char* labels) {
  size_t best[TOP];
  char label[LABEL];
  for (size_t rank = 0; rank < TOP && rank < count; ++rank) {
    best[rank] = count;
    for (size_t i = 0; i < count; ++i) {
      int taken = 0;
      for (size_t r = 0; r < rank; ++r) taken |= best[r] == i;
      if (!taken && (best[rank] == count || scores[i] > scores[best[rank]])) best[rank] = i;
    }
    read_label(labels, best[rank], label);
    printf("%zu %.6g %s\n", best[rank], (double)scores[best[rank]], label);
  }
}

static int classify(const as_plan* plan, const char* image, const char* labels) {
  as_value input, output;
  as_context* context = NULL;
  float *x = NULL, *y = NULL;
  int failed = 1;
  if (as_plan_input_count(plan) != 1 || as_plan_output_count(plan) != 1) {
    fprintf(stderr, "the network has more than one input or output\n");
    return 1;
  }
  if (as_plan_input(plan, 0, &input) == AS_OK && as_plan_output(plan, 0, &output) == AS_OK &&
      as_context_create(plan, 0, &context) == AS_OK) {
    x = read_input(image, &input);
    y = malloc(sizeof(float) * output.elements);
    if (x != NULL && y != NULL) {
      const float* inputs[1];
      float* outputs[1];
      inputs[0] = x;
      outputs[0] = y;
      failed = as_context_run(context, inputs, outputs) != AS_OK;
      if (!failed) print_top(y, output.elements, labels);
    }
  }
  if (failed && as_last_error()[0] != '\0') fprintf(stderr, "%s\n", as_last_error());
  as_context_free(context);
  free(x);
  free(y);
  return failed;
}

int main(int argc, char** argv) {
  as_plan* plan = NULL;
  int failed;
  if (argc != 3 && argc != 4) {
    fprintf(stderr, "usage: %s PLAN IMAGE.ppm|IMAGE.pgm|VALUES.raw [LABELS.txt]\n", argv[0]);
    return 2;
  }
  if (as_plan_load(argv[1], &plan) != AS_OK) {
    fprintf(stderr, "%s\n", as_last_error());
    return 1;
  }
  failed = classify(plan, argv[2], argc == 4 ? argv[3] : NULL);
  as_plan_free(plan);
  return failed;
}

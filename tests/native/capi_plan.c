/* Plans through the C interface: `capi_plan PLAN ISA`. Prints "ok", or what is wrong. The plan
 * takes an image (1, 3, 8, 8) and was compiled for two threads. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "activsparse.h"

static int fail(const char* what) {
  printf("%s: %s\n", what, as_last_error());
  return 1;
}

static int refused(const char* what, const void* data, size_t bytes, as_status expected) {
  as_plan* plan = (as_plan*)&plan;
  if (as_plan_load_memory(data, bytes, &plan) != expected || plan != NULL) return fail(what);
  return as_last_error()[0] == '\0' || strchr(as_last_error(), '\n') != NULL ? fail(what) : 0;
}

static int check_damage(const unsigned char* sound, size_t bytes) {
  unsigned char* bad = malloc(bytes);
  int failed = 0;
  size_t at = 0;
  for (size_t i = 0; i < 64 && !failed; ++i) {
    memcpy(bad, sound, bytes);
    at = (at * 2654435761u + 12345u) % bytes;
    bad[at] ^= (unsigned char)(1u << i % 8);
    failed = as_plan_load_memory(bad, bytes, &(as_plan*){NULL}) == AS_OK;
    if (failed) fail("an altered byte");
    failed = failed || refused("a cut plan", sound, at, AS_DAMAGED);
  }
  memcpy(bad, sound, bytes);
  bad[12] += 1; /* the format's version */
  failed = failed || refused("a newer format", bad, bytes, AS_INCOMPATIBLE);
  failed =
      failed || refused("no plan", "hello", 5, AS_DAMAGED) || refused("nothing", "", 0, AS_DAMAGED);
  free(bad);
  return failed;
}

static int check_description(const as_plan* plan, const char* isa) {
  as_value value;
  if (strcmp(as_plan_isa(plan), isa) != 0 || as_plan_threads(plan) != 2)
    return fail("isa or threads");
  if (as_plan_input_count(plan) != 1 || as_plan_output_count(plan) != 1) return fail("counts");
  if (as_plan_input(plan, 0, &value) != AS_OK || value.rank != 4 || value.shape[0] != 1 ||
      value.shape[1] != 3 || value.shape[2] != 8 || value.shape[3] != 8 || value.elements != 192 ||
      value.dtype != AS_FLOAT32 || value.name[0] == '\0')
    return fail("input");
  as_dtype type = AS_BOOL;
  if (as_plan_input_type(plan, 0, &type) != AS_OK || type != AS_FLOAT32) return fail("type");
  if (as_plan_output_type(plan, 0, &type) != AS_OK || type != AS_FLOAT32) return fail("type");
  if (as_plan_input_type(plan, 1, &type) != AS_INVALID ||
      as_plan_output_type(plan, 0, NULL) != AS_INVALID)
    return fail("wrong arguments of types");
  if (as_plan_output(plan, 0, &value) != AS_OK || value.elements == 0) return fail("output");
  if (as_plan_output(plan, 1, &value) != AS_INVALID || as_plan_input(plan, 0, NULL) != AS_INVALID)
    return fail("wrong arguments");
  return 0;
}

static int run_twice(as_plan* plan, float* first, float* second, size_t outputs) {
  static float x[192];
  const float* inputs[1];
  float* results[1];
  as_context *one = NULL, *two = NULL;
  for (int i = 0; i < 192; ++i) x[i] = (float)(i % 17) / 8.0f - 1.0f;
  inputs[0] = x;
  if (as_context_create(plan, 1, &one) != AS_OK || as_context_create(plan, 0, &two) != AS_OK)
    return fail("context");
  if (as_context_create(plan, -1, &(as_context*){NULL}) != AS_INVALID) return fail("threads");
  as_pool* pool = NULL;
  as_context* shared[2] = {NULL, NULL};
  if (as_pool_create(2, &pool) != AS_OK || as_pool_create(0, &(as_pool*){NULL}) != AS_INVALID)
    return fail("pool");
  for (int i = 0; i < 2; ++i)
    if (as_context_create_on(plan, pool, 2 * i, &shared[i]) != AS_OK)
      return fail("context on a pool");
  if (as_context_create_on(plan, NULL, 1, &(as_context*){NULL}) != AS_INVALID)
    return fail("context on no pool");
  as_pool_free(pool);
  as_plan_free(plan); /* contexts live on */
  if (as_context_bytes(one) == 0) return fail("bytes");
  results[0] = first;
  if (as_context_run(one, inputs, results) != AS_OK) return fail("run");
  results[0] = second;
  if (as_context_run(two, inputs, results) != AS_OK) return fail("run with two threads");
  for (int i = 0; i < 2; ++i) {
    memset(second, 0, outputs * sizeof(float));
    if (as_context_run(shared[i], inputs, results) != AS_OK ||
        memcmp(first, second, outputs * sizeof(float)) != 0)
      return fail("run on a pool");
    as_context_free(shared[i]);
  }
  if (as_context_run(one, NULL, results) != AS_INVALID ||
      as_context_run(NULL, inputs, results) != AS_INVALID)
    return fail("NULL");
  as_context_free(one);
  as_context_free(two);
  return memcmp(first, second, outputs * sizeof(float)) == 0 ? 0
                                                             : fail("threads change the result");
}

int main(int argc, char** argv) {
  as_plan *from_file = NULL, *from_memory = NULL;
  as_value output;
  unsigned char* block;
  float* results[4];
  long bytes;
  FILE* file;
  if (argc != 3 || as_abi_version() != AS_ABI_VERSION) return fail("arguments or version");
  if (as_plan_load("/no/such.plan", &from_file) != AS_FILE || from_file != NULL)
    return fail("no such file");
  if (as_plan_load(NULL, &from_file) != AS_INVALID || as_plan_load(argv[1], NULL) != AS_INVALID)
    return fail("NULL");
  if (as_plan_load(argv[1], &from_file) != AS_OK || check_description(from_file, argv[2]))
    return fail("load");
  file = fopen(argv[1], "rb");
  fseek(file, 0, SEEK_END);
  bytes = ftell(file);
  rewind(file);
  block = (unsigned char*)malloc((size_t)bytes + 1) + 1; /* not aligned */
  if (fread(block, 1, (size_t)bytes, file) != (size_t)bytes) return fail("read");
  fclose(file);
  if (check_damage(block, (size_t)bytes)) return 1;
  if (as_plan_load_memory(block, (size_t)bytes, &from_memory) != AS_OK)
    return fail("load from memory");
  free(block - 1);
  as_plan_output(from_file, 0, &output);
  for (int i = 0; i < 4; ++i) results[i] = malloc(output.elements * sizeof(float));
  if (run_twice(from_file, results[0], results[1], output.elements)) return 1;
  if (run_twice(from_memory, results[2], results[3], output.elements)) return 1;
  if (memcmp(results[0], results[2], output.elements * sizeof(float)) != 0)
    return fail("memory and file differ");
  for (int i = 0; i < 4; ++i) free(results[i]);
  as_plan_free(NULL);
  as_context_free(NULL);
  printf("ok\n");
  return 0;
}

/* activsparse from C: compiled plans, and single operators (convolutions with masks first of all)
 * that other runtimes can call.
 *
 * A plan is made by `activsparse compile model.onnx --out model.plan`:
 *
 *   as_plan* plan = NULL;
 *   as_context* context = NULL;
 *   if (as_plan_load("model.plan", &plan) != AS_OK ||
 *       as_context_create(plan, 2, &context) != AS_OK ||
 *       as_context_run(context, inputs, outputs) != AS_OK)
 *     puts(as_last_error());
 *   as_context_free(context);
 *   as_plan_free(plan);
 *
 * where `inputs` and `outputs` are arrays of pointers, each to the floats of one.
 *
 * A single operator:
 *
 *   as_spec* spec = as_spec_new("conv");
 *   as_tensor x = {1, 56, 56, 64, 64, 0, 0}, y = {1, 56, 56, 64, 64, 0, 0};
 *   as_spec_input(spec, &x);  as_spec_output(spec, &y);
 *   as_spec_int(spec, "pad_top", 1);  ...  as_spec_string(spec, "activation", "relu");
 *   as_spec_array(spec, "weight", AS_FLOAT32, weight, 4, (const int64_t[]){64, 64, 3, 3});
 *   as_spec_array(spec, "mask", AS_UINT8, mask, 2, (const int64_t[]){56, 56});
 *   as_operator* op = NULL;
 *   if (as_operator_create(spec, NULL, NULL, &op) != AS_OK) puts(as_last_error());
 *   as_spec_free(spec);
 *   as_operator_run(op, inputs, outputs, 2);
 *   as_operator_free(op);
 *
 * Kinds, attributes and arrays are those of docs/operators.md. Functions that can fail return a
 * status; as_last_error() then tells why, in one line. No exception leaves this interface. Spec
 * builders take NULL as the spec and fail, so that only as_operator_create() needs checking: it
 * reports the first failure of its spec.
 *
 * Threads. Plans do not change once loaded: any threads may use one at once. Of a context or an
 * operator one run goes at a time, a second caller waits; different contexts run at once. All of a
 * process share its cores: each run gets the threads it may use as far as they are free, and waits
 * while none is. as_pool_create() makes threads apart from those. A spec
 * belongs to one thread at a time. Nothing may be freed while it is in use. Worker threads do not
 * survive fork(): create contexts and operators after it.
 *
 * The binary interface. Structs and functions keep their meaning as long as AS_ABI_VERSION stays;
 * new functions and status codes may be added. Compare it with as_abi_version() when the library
 * is loaded at run time. */
#ifndef ACTIVSPARSE_H_
#define ACTIVSPARSE_H_

#include <stddef.h>
#include <stdint.h>

#define AS_ABI_VERSION 1

#if defined(__GNUC__)
#define AS_API __attribute__((visibility("default")))
#else
#define AS_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef enum as_status {
  AS_OK = 0,
  AS_INVALID = 1, /* a wrong argument, or a spec no algorithm can run */
  AS_OUT_OF_MEMORY = 2,
  AS_INTERNAL = 3,    /* a defect of this library */
  AS_FILE = 4,        /* a file that cannot be read */
  AS_DAMAGED = 5,     /* a plan that is cut, altered, or none at all */
  AS_INCOMPATIBLE = 6 /* a plan of another format, build, instruction set, or newer engine */
} as_status;

/* The first four are those of a spec's arrays, AS_FLOAT32, AS_UINT8 and AS_FLOAT16 those of
 * tensors; a model's inputs and outputs may be of all. */
typedef enum as_dtype {
  AS_FLOAT32 = 0,
  AS_INT32 = 1,
  AS_UINT8 = 2,
  AS_INT8 = 3,
  AS_INT64 = 4,
  AS_FLOAT16 = 5,
  AS_FLOAT64 = 6,
  AS_BOOL = 7,
  AS_INT16 = 8,
  AS_UINT16 = 9,
  AS_UINT32 = 10,
  AS_UINT64 = 11
} as_dtype;

/* A tensor. NHWC: pixel (n, y, x) starts at element ((n * h + y) * w + x) * stride, stride
 * >= c. With `nchw` it is plain NCHW and stride is ignored. With `padded` the operator may
 * overwrite lanes c .. c rounded up to 16 of every pixel, which is faster for other channel counts;
 * stride must leave room for them. */
typedef struct as_tensor {
  int32_t n, h, w, c, stride;
  int32_t nchw, padded; /* 0 or 1 */
} as_tensor;

typedef struct as_spec as_spec;
typedef struct as_operator as_operator;
typedef struct as_plan as_plan;
typedef struct as_context as_context;
typedef struct as_pool as_pool;

AS_API const char* as_version(void); /* "0.1.0" */
AS_API int as_abi_version(void);     /* AS_ABI_VERSION of the library */

/* Why the last failing call of this thread failed; "" when none has. Valid until this thread's next
 * failure. */
AS_API const char* as_last_error(void);

/* Instruction sets compiled in and present on this CPU, slowest first. NULL beyond the end. */
AS_API int as_isa_count(void);
AS_API const char* as_isa_name(int index);

/* Plans. */

/* Maps a file into memory. It must not be written to while the plan or a context of it lives;
 * renaming another file over it is fine. Load plans only from where you would load a program from:
 * damage is found, forgery is not. */
AS_API as_status as_plan_load(const char* path, as_plan** plan);
/* The same from memory, which must stay as it is while the plan or a context of it lives. It is
 * used in place where it starts at a 64-byte boundary, and copied elsewhere. */
AS_API as_status as_plan_load_memory(const void* data, size_t bytes, as_plan** plan);
/* Contexts of the plan stay usable. */
AS_API void as_plan_free(as_plan* plan);

/* An input or output: its array holds `elements` values in C order, images as NCHW. */
typedef struct as_value {
  const char* name; /* UTF-8; lives as long as the plan */
  as_dtype dtype;   /* AS_FLOAT32, whatever type the model has: of the array that is run */
  int32_t rank;
  int64_t shape[8];
  size_t elements;
} as_value;

AS_API const char* as_plan_isa(const as_plan* plan); /* "scalar", "avx2", "avx512", "neon" */
AS_API int as_plan_threads(const as_plan* plan);     /* what it was compiled for */
AS_API size_t as_plan_input_count(const as_plan* plan);
AS_API size_t as_plan_output_count(const as_plan* plan);
AS_API as_status as_plan_input(const as_plan* plan, size_t index, as_value* value);
AS_API as_status as_plan_output(const as_plan* plan, size_t index, as_value* value);

/* The type that an input or output has in the model the plan was compiled from. Its array holds
 * float32 all the same: pixels of AS_UINT8 are the numbers 0 to 255, results of AS_INT64 or AS_BOOL
 * are whole numbers. */
AS_API as_status as_plan_input_type(const as_plan* plan, size_t index, as_dtype* dtype);
AS_API as_status as_plan_output_type(const as_plan* plan, size_t index, as_dtype* dtype);

/* Threads of which at most so many compute at once, the callers' own among them. */
AS_API as_status as_pool_create(int threads, as_pool** pool);
/* Contexts on it stay usable. */
AS_API void as_pool_free(as_pool* pool);

/* Memory for activations; `threads` 0 takes as many as the plan was compiled for, of those all
 * contexts and operators share. All allocation happens here. Of a plan for a batch of at least as
 * many images as threads, each thread runs some by itself, in memory of its own. */
AS_API as_status as_context_create(const as_plan* plan, int threads, as_context** context);
/* The same on the threads of a pool; `threads` 0 takes all of them. */
AS_API as_status as_context_create_on(const as_plan* plan, as_pool* pool, int threads,
                                      as_context** context);
AS_API void as_context_free(as_context* context);
/* Bytes for activations and scratch; the plan's weights, shared by its contexts, are not among
 * them. */
AS_API size_t as_context_bytes(const as_context* context);
/* One array per input and output of the plan, in its order; inputs and outputs must not overlap. */
AS_API as_status as_context_run(as_context* context, const float* const* inputs,
                                float* const* outputs);

/* Single operators. */

/* NULL only when out of memory or `kind` is NULL. */
AS_API as_spec* as_spec_new(const char* kind);
AS_API void as_spec_free(as_spec* spec);
AS_API as_status as_spec_int(as_spec* spec, const char* name, int64_t value);
AS_API as_status as_spec_float(as_spec* spec, const char* name, double value);
AS_API as_status as_spec_string(as_spec* spec, const char* name, const char* value);
/* Dense, C order. Not copied: `data` must stay valid until as_operator_create() has returned. */
AS_API as_status as_spec_array(as_spec* spec, const char* name, as_dtype dtype, const void* data,
                               int rank, const int64_t* shape);
AS_API as_status as_spec_input(as_spec* spec, const as_tensor* tensor);
AS_API as_status as_spec_output(as_spec* spec, const as_tensor* tensor);
/* The same of AS_FLOAT32, of AS_UINT8, for operators on bytes ("Bytes" in docs/operators.md), whose
 * weights are AS_INT8, or of AS_FLOAT16 ("Float16" there), whose weights are AS_FLOAT32. Pixels of
 * bytes are a multiple of 16 apart, or 4 where there are so few channels. */
AS_API as_status as_spec_input_of(as_spec* spec, as_dtype dtype, const as_tensor* tensor);
AS_API as_status as_spec_output_of(as_spec* spec, as_dtype dtype, const as_tensor* tensor);

/* Packs the weights; the spec and its arrays are not needed afterwards. `algorithm` NULL times
 * every algorithm that can run the spec (a few runs each, one thread) and keeps the fastest. `isa`
 * NULL is the best of this CPU. */
AS_API as_status as_operator_create(const as_spec* spec, const char* algorithm, const char* isa,
                                    as_operator** op);
AS_API void as_operator_free(as_operator* op);
AS_API const char* as_operator_algorithm(const as_operator* op);
/* Bytes of packed weights, masks and tables. */
AS_API size_t as_operator_bytes(const as_operator* op);

/* One array per input and output of the spec, cast to float* where it holds bytes. One run at a
 * time per operator: a second caller waits. Allocates only when `threads` changes. */
AS_API as_status as_operator_run(as_operator* op, const float* const* inputs, float* const* outputs,
                                 int threads);

#ifdef __cplusplus
}
#endif
#endif /* ACTIVSPARSE_H_ */

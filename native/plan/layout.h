// The bytes of a plan file, as docs/plan-format.md describes them. Reader and writer share these
// structs; nothing else knows the format.
#pragma once
#include <cstdint>

#include "common/blob.h"

namespace activsparse {

// They are mapped into memory and read as they are.
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "plan files are little-endian");

inline constexpr char kPlanMagic[8] = {'\x8f', 'A', 'S', 'P', 'L', 'A', 'N', '\n'};
inline constexpr std::uint32_t kPlanByteOrder = 0x01020304;
// Rises with every change of the structs below. Changes of operators' packed data are found by
// `build`.
inline constexpr std::uint32_t kPlanFormat = 7;
inline constexpr int kPlanMaxRank = 8;
inline constexpr int kPlanTypes = 12;                   // of inputs and outputs: as_dtype
inline constexpr std::int64_t kPlanMaxParts = 1 << 20;  // of a batch

struct PlanTable {
  std::uint64_t offset, count;  // bytes from the start of the file; entries
};

struct PlanHeader {
  char magic[8];
  std::uint32_t byte_order, format, checksum, threads;
  std::uint64_t file_bytes, arena_bytes;
  char engine[16], isa[16], build[32];  // ASCII, filled up with zeros
  std::uint32_t inputs, outputs;        // of the values: inputs first
  PlanTable values, tensors, steps, ids, names, metadata;
  std::uint8_t reserved[48];
};
static_assert(sizeof(PlanHeader) == 256);

struct PlanValueRow {
  std::uint32_t name, name_bytes;  // in the names, without the zero that ends it
  std::int32_t tensor;
  std::int16_t rank, type;
  std::int64_t shape[kPlanMaxRank];
};
static_assert(sizeof(PlanValueRow) == 80);

struct PlanTensorRow {
  std::int32_t n, h, w, c, stride, nchw, padded, dtype;
  std::int64_t offset;
};
static_assert(sizeof(PlanTensorRow) == 40);

struct PlanStepRow {
  char kind[24], algorithm[24];  // ASCII, filled up with zeros
  std::uint32_t first_id, inputs, outputs, reserved;
  std::uint64_t data_offset, data_bytes;
};
static_assert(sizeof(PlanStepRow) == 80);

inline std::uint64_t plan_aligned(std::uint64_t bytes) {
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

}  // namespace activsparse

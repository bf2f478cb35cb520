// Compiled plans in files and in memory: the only reader and writer of docs/plan-format.md.
#pragma once
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "executor/executor.h"
#include "operators/operator.h"

namespace activsparse {

// An input or output of the graph.
struct PlanValue {
  std::string name;  // UTF-8
  std::vector<int64_t> shape;
  int tensor = 0;
  int type = 0;  // as_dtype, of the model it was compiled from
};

struct PlanFileStep {
  std::string kind, algorithm;
  std::vector<int> inputs, outputs;  // tensor ids
  BlobView data{nullptr, 0};
};

struct PlanContent {
  Isa isa = Isa::kScalar;
  int threads = 1;  // how many to use unless told otherwise
  std::vector<PlanValue> inputs, outputs;
  std::vector<PlanTensor> tensors;
  std::vector<PlanFileStep> steps;
  int64_t arena_bytes = 0;
  int parts = 1;  // how many times the inputs and outputs hold of what their tensors do
  std::string_view metadata;
};

// Version of this engine, and a digest of the sources that decide how operators are packed. The
// latter is the same for every target they are compiled for.
const char* engine_version();
const char* engine_build();

// A plan, mapped into memory or lying there already. Nothing of it is believed before the checksum
// over all of it holds, and nothing is handed out that does not fit together. Immutable.
class PlanFile {
 public:
  // Throws Error (kFile, kDamaged, kIncompatible) with one line that starts with the path. The file
  // must not be written to while this object lives; renaming another one over it is fine.
  static std::shared_ptr<const PlanFile> open(const std::string& path);
  // `data` must stay as it is while this object lives, unless it does not start at a 64-byte
  // boundary: then it is copied. Throws Error.
  static std::shared_ptr<const PlanFile> in_memory(const void* data, std::size_t bytes);
  ~PlanFile();
  PlanFile(const PlanFile&) = delete;
  PlanFile& operator=(const PlanFile&) = delete;

  const PlanContent& content() const { return content_; }
  // The operator of step `i`; it must not outlive this object. Throws Error (kDamaged).
  std::unique_ptr<Operator> create(std::size_t i) const;

 private:
  PlanFile() = default;
  void read(const uint8_t* data, std::size_t bytes);

  std::string where_;
  PlanContent content_;
  Blob copy_;
  void* mapping_ = nullptr;
  std::size_t mapping_bytes_ = 0;
};

// Writes a plan to an open file. Returns 0, or errno. Throws Error when names are too long.
int write_plan(const PlanContent& content, int file);

}  // namespace activsparse

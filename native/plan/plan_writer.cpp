// Writing plans.
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "plan/crc32.h"
#include "plan/layout.h"
#include "plan/plan_file.h"

namespace activsparse {
namespace {

template <std::size_t N>
void put_text(char (&field)[N], const std::string& text) {
  if (text.size() >= N) throw Error("'" + text + "' is too long for a plan file");
  std::memcpy(field, text.data(), text.size());
}

// Everything before the packed data, and where those will lie.
struct Head {
  PlanHeader header{};
  std::vector<PlanValueRow> values;
  std::vector<PlanTensorRow> tensors;
  std::vector<PlanStepRow> steps;
  std::vector<int32_t> ids;
  std::string names;

  explicit Head(const PlanContent& content) {
    for (const PlanValue& value : content.inputs) add(value);
    for (const PlanValue& value : content.outputs) add(value);
    for (const PlanTensor& tensor : content.tensors) add(tensor);
    for (const PlanFileStep& step : content.steps) add(step);
    lay_out(content);
  }

  void add(const PlanValue& value) {
    const bool typed = value.type >= 0 && value.type < kPlanTypes;
    if (!typed || value.shape.size() > kPlanMaxRank || value.name.find('\0') != std::string::npos)
      throw Error("'" + value.name + "' cannot be an input or output of a plan file");
    PlanValueRow row{};
    row.name = static_cast<uint32_t>(names.size());
    row.name_bytes = static_cast<uint32_t>(value.name.size());
    names.append(value.name.c_str(), value.name.size() + 1);
    row.tensor = value.tensor;
    row.rank = static_cast<int16_t>(value.shape.size());
    row.type = static_cast<int16_t>(value.type);
    std::copy(value.shape.begin(), value.shape.end(), row.shape);
    values.push_back(row);
  }

  void add(const PlanTensor& tensor) {
    const TensorDesc& d = tensor.desc;
    tensors.push_back({d.n, d.h, d.w, d.c, d.stride, d.nchw, d.padded,
                       static_cast<int32_t>(d.dtype), tensor.offset});
  }

  void add(const PlanFileStep& step) {
    PlanStepRow row{};
    put_text(row.kind, step.kind);
    put_text(row.algorithm, step.algorithm);
    row.first_id = static_cast<uint32_t>(ids.size());
    row.inputs = static_cast<uint32_t>(step.inputs.size());
    row.outputs = static_cast<uint32_t>(step.outputs.size());
    ids.insert(ids.end(), step.inputs.begin(), step.inputs.end());
    ids.insert(ids.end(), step.outputs.begin(), step.outputs.end());
    row.data_bytes = step.data.size();
    steps.push_back(row);
  }

  void lay_out(const PlanContent& content) {
    PlanHeader& h = header;
    std::memcpy(h.magic, kPlanMagic, sizeof(h.magic));
    h.byte_order = kPlanByteOrder;
    h.format = kPlanFormat;
    h.threads = static_cast<uint32_t>(content.threads);
    h.arena_bytes = static_cast<uint64_t>(content.arena_bytes);
    put_text(h.engine, engine_version());
    put_text(h.isa, isa_name(content.isa));
    put_text(h.build, engine_build());
    h.inputs = static_cast<uint32_t>(content.inputs.size());
    h.outputs = static_cast<uint32_t>(content.outputs.size());
    uint64_t end = sizeof(h);
    const auto place = [&](PlanTable& table, std::size_t count, std::size_t row_bytes) {
      table = {end, count};
      end = plan_aligned(end + count * row_bytes);
    };
    place(h.values, values.size(), sizeof(PlanValueRow));
    place(h.tensors, tensors.size(), sizeof(PlanTensorRow));
    place(h.steps, steps.size(), sizeof(PlanStepRow));
    place(h.ids, ids.size(), sizeof(int32_t));
    place(h.names, names.size(), 1);
    place(h.metadata, content.metadata.size(), 1);
    for (PlanStepRow& row : steps) {
      row.data_offset = end;
      end = plan_aligned(end + row.data_bytes);
    }
    h.file_bytes = end;
  }
};

// Hands every part to `sink(data, bytes)`, with the zeros between them.
template <class Sink>
void for_each_part(const Head& head, const PlanContent& content, const Sink& sink) {
  static constexpr uint8_t kZeros[kAlignment] = {};
  const auto part = [&](const void* data, std::size_t bytes) {
    sink(data, bytes);
    sink(kZeros, plan_aligned(bytes) - bytes);
  };
  part(&head.header, sizeof(PlanHeader));
  part(head.values.data(), head.values.size() * sizeof(PlanValueRow));
  part(head.tensors.data(), head.tensors.size() * sizeof(PlanTensorRow));
  part(head.steps.data(), head.steps.size() * sizeof(PlanStepRow));
  part(head.ids.data(), head.ids.size() * sizeof(int32_t));
  part(head.names.data(), head.names.size());
  part(content.metadata.data(), content.metadata.size());
  for (const PlanFileStep& step : content.steps) part(step.data.data(), step.data.size());
}

int write_all(int file, const void* data, std::size_t bytes) {
  const auto* p = static_cast<const uint8_t*>(data);
  while (bytes > 0) {
    const ssize_t written = ::write(file, p, bytes);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return written < 0 ? errno : EIO;
    p += written;
    bytes -= static_cast<std::size_t>(written);
  }
  return 0;
}

}  // namespace

const char* engine_version() { return ACTIVSPARSE_VERSION; }
const char* engine_build() { return ACTIVSPARSE_BUILD; }

int write_plan(const PlanContent& content, int file) {
  Head head(content);
  uint32_t checksum = 0;
  for_each_part(head, content, [&](const void* data, std::size_t bytes) {
    checksum = crc32(data, bytes, checksum);
  });
  head.header.checksum = checksum;
  int failure = 0;
  for_each_part(head, content, [&](const void* data, std::size_t bytes) {
    if (failure == 0) failure = write_all(file, data, bytes);
  });
  return failure;
}

}  // namespace activsparse

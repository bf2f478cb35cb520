// Reading plans: checks first, then views of what they hold.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>

#include "operators/checks.h"
#include "plan/crc32.h"
#include "plan/layout.h"
#include "plan/plan_file.h"

namespace activsparse {
namespace {

[[noreturn]] void damaged(const std::string& cause) {
  throw Error(cause + "; compile the model again", Cause::kDamaged);
}

[[noreturn]] void incompatible(const std::string& cause) {
  throw Error(cause, Cause::kIncompatible);
}

void require(bool condition, const char* cause) {
  if (!condition) damaged(std::string("its tables are damaged: ") + cause);
}

template <std::size_t N>
std::string text_of(const char (&field)[N]) {
  return std::string(field, strnlen(field, N));
}

// The numbers of "1.2.3"; what follows them does not matter.
std::vector<int> release_of(const std::string& version) {
  std::vector<int> numbers(3, 0);
  const char* p = version.c_str();
  for (int& number : numbers) {
    while (*p >= '0' && *p <= '9' && number < 100000) number = number * 10 + (*p++ - '0');
    if (*p++ != '.') break;
  }
  return numbers;
}

std::string isa_names() {
  std::string names;
  for (Isa isa : available_isas()) names += std::string(names.empty() ? "" : ", ") + isa_name(isa);
  return names;
}

void check_frame(const PlanHeader& h, const uint8_t* data, std::size_t bytes) {
  if (h.byte_order != kPlanByteOrder)
    damaged("the plan is damaged, or was compiled on a machine of the other byte order");
  if (h.format != kPlanFormat)
    incompatible("plan format " + std::to_string(h.format) + ", this engine reads format " +
                 std::to_string(kPlanFormat) + "; compile the model again with this version");
  if (h.file_bytes != bytes)
    damaged(std::to_string(bytes) + " bytes of a plan that has " + std::to_string(h.file_bytes) +
            ": cut or damaged");
  PlanHeader blank = h;
  blank.checksum = 0;
  const uint32_t start = crc32(&blank, sizeof(blank));
  if (crc32(data + sizeof(blank), bytes - sizeof(blank), start) != h.checksum)
    damaged("the plan was altered or damaged: its checksum does not hold");
}

void check_maker(const PlanHeader& h) {
  const std::string version = text_of(h.engine);
  if (release_of(version) > release_of(engine_version()))
    incompatible("compiled by activsparse " + version + ", this is " + engine_version() +
                 "; upgrade, or compile the model again with this version");
  if (text_of(h.build) != engine_build())
    incompatible("compiled by another build of activsparse " + version +
                 ", whose operators pack their weights differently; compile the model again with "
                 "this one");
  const std::string isa = text_of(h.isa);
  for (Isa have : available_isas())
    if (isa == isa_name(have)) return;
  incompatible("compiled for '" + isa + "', this machine has " + isa_names() +
               "; compile the model for it");
}

// The rows of a table; throws unless they lie in the file.
template <class Row>
const Row* rows_of(const PlanTable& table, const uint8_t* data, std::size_t bytes) {
  require(table.offset % kAlignment == 0 && table.offset >= sizeof(PlanHeader) &&
              table.offset <= bytes && table.count <= (bytes - table.offset) / sizeof(Row),
          "a table lies outside of the file");
  return reinterpret_cast<const Row*>(data + table.offset);
}

PlanTensor tensor_of(const PlanTensorRow& row) {
  const TensorDesc desc{row.n,      row.h,    row.w,      row.c,
                        row.stride, row.nchw, row.padded, static_cast<DType>(row.dtype)};
  if (const char* fault = fault_of_memory(desc)) require(false, fault);
  require(row.offset >= -1 && row.offset < kMostBytes, "a tensor's place is impossible");
  return {desc, row.offset};
}

// `parts` is that of the values before this one, or 0.
PlanValue value_of(const PlanValueRow& row, const char* names, uint64_t name_bytes,
                   const std::vector<PlanTensor>& tensors, int& parts) {
  require(row.name < name_bytes && row.name_bytes < name_bytes - row.name &&
              names[row.name + row.name_bytes] == '\0',
          "a name lies outside of its table");
  require(row.tensor >= 0 && static_cast<std::size_t>(row.tensor) < tensors.size(),
          "an input or output names no tensor");
  require(row.rank >= 0 && row.rank <= kPlanMaxRank, "an input or output has too many dimensions");
  require(row.type >= 0 && row.type < kPlanTypes, "an input or output is of no known type");
  PlanValue value{std::string(names + row.name, row.name_bytes), {}, row.tensor, row.type};
  int64_t elements = 1;
  for (int i = 0; i < row.rank; ++i) {
    require(row.shape[i] >= 0 && (row.shape[i] == 0 || elements <= kMostFloats / row.shape[i]),
            "an input or output has an impossible shape");
    elements *= row.shape[i];
    value.shape.push_back(row.shape[i]);
  }
  const TensorDesc& desc = tensors[row.tensor].desc;
  const int64_t of_tensor = desc.pixels() * desc.c;
  const int64_t times = of_tensor > 0 ? elements / of_tensor : 1;
  if (parts == 0 && times <= kPlanMaxParts) parts = static_cast<int>(times);
  require(times == parts && times > 0 && times * of_tensor == elements &&
              (times == 1 || value.shape[0] % times == 0) && (desc.nchw || desc.stride == desc.c),
          "an input or output is not the shape of its tensor");
  return value;
}

}  // namespace

std::shared_ptr<const PlanFile> PlanFile::open(const std::string& path) {
  const auto fail = [&] {
    throw Error(path + ": cannot be read (" + std::strerror(errno) + "); check the path",
                Cause::kFile);
  };
  std::shared_ptr<PlanFile> plan(new PlanFile);
  plan->where_ = path;
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) fail();
  struct stat status;
  const bool known = fstat(file, &status) == 0;
  if (known && !S_ISREG(status.st_mode)) {
    close(file);
    throw Error(path + ": is not a file; name a plan", Cause::kFile);
  }
  if (known && status.st_size > 0) {
    plan->mapping_bytes_ = static_cast<std::size_t>(status.st_size);
    void* mapping = mmap(nullptr, plan->mapping_bytes_, PROT_READ, MAP_SHARED, file, 0);
    if (mapping != MAP_FAILED) plan->mapping_ = mapping;
  }
  const int cause = errno;
  close(file);
  errno = cause;
  if (!known || (status.st_size > 0 && plan->mapping_ == nullptr)) fail();
  plan->read(static_cast<const uint8_t*>(plan->mapping_), plan->mapping_bytes_);
  return plan;
}

std::shared_ptr<const PlanFile> PlanFile::in_memory(const void* data, std::size_t bytes) {
  std::shared_ptr<PlanFile> plan(new PlanFile);
  plan->where_ = "plan in memory";
  const auto* start = static_cast<const uint8_t*>(data);
  if (reinterpret_cast<uintptr_t>(data) % kAlignment != 0) {
    plan->copy_.assign(start, start + bytes);
    start = plan->copy_.data();
  }
  plan->read(start, bytes);
  return plan;
}

PlanFile::~PlanFile() {
  if (mapping_ != nullptr) munmap(mapping_, mapping_bytes_);
}

void PlanFile::read(const uint8_t* data, std::size_t bytes) try {
  const std::size_t seen = std::min(bytes, sizeof(kPlanMagic));
  if (seen == 0 || std::memcmp(data, kPlanMagic, seen) != 0) damaged("not a compiled plan");
  if (bytes < sizeof(PlanHeader)) damaged("the plan is cut short");
  PlanHeader h;
  std::memcpy(&h, data, sizeof(h));
  check_frame(h, data, bytes);
  check_maker(h);

  PlanContent& c = content_;
  c.isa = isa_from_name(text_of(h.isa));
  require(h.threads >= 1 && h.threads <= 4096, "an impossible number of threads");
  c.threads = static_cast<int>(h.threads);
  require(h.arena_bytes < static_cast<uint64_t>(kMostBytes), "the arena is too large");
  c.arena_bytes = static_cast<int64_t>(h.arena_bytes);
  const auto* tensors = rows_of<PlanTensorRow>(h.tensors, data, bytes);
  for (uint64_t i = 0; i < h.tensors.count; ++i) c.tensors.push_back(tensor_of(tensors[i]));

  const auto* values = rows_of<PlanValueRow>(h.values, data, bytes);
  const auto* names = rows_of<char>(h.names, data, bytes);
  require(h.values.count == uint64_t{h.inputs} + h.outputs,
          "not as many values as inputs and outputs");
  c.parts = 0;
  for (uint64_t i = 0; i < h.values.count; ++i)
    (i < h.inputs ? c.inputs : c.outputs)
        .push_back(value_of(values[i], names, h.names.count, c.tensors, c.parts));
  c.parts = std::max(c.parts, 1);

  const auto* ids = rows_of<int32_t>(h.ids, data, bytes);
  const auto* steps = rows_of<PlanStepRow>(h.steps, data, bytes);
  for (uint64_t i = 0; i < h.steps.count; ++i) {
    const PlanStepRow& row = steps[i];
    require(row.first_id <= h.ids.count && row.inputs <= h.ids.count - row.first_id &&
                row.outputs <= h.ids.count - row.first_id - row.inputs,
            "a step's tensors lie outside of their table");
    require(row.data_offset % kAlignment == 0 && row.data_offset >= sizeof(PlanHeader) &&
                row.data_offset <= bytes && row.data_bytes <= bytes - row.data_offset,
            "a step's data lie outside of the file");
    PlanFileStep step;
    step.kind = text_of(row.kind);
    step.algorithm = text_of(row.algorithm);
    const int32_t* first = ids + row.first_id;
    step.inputs.assign(first, first + row.inputs);
    step.outputs.assign(first + row.inputs, first + row.inputs + row.outputs);
    for (const auto* list : {&step.inputs, &step.outputs})
      for (int id : *list)
        require(id >= 0 && static_cast<std::size_t>(id) < c.tensors.size(),
                "a step names no tensor");
    find_operator_type(step.kind, step.algorithm);
    step.data = BlobView(data + row.data_offset, row.data_bytes);
    c.steps.push_back(std::move(step));
  }
  c.metadata = {rows_of<char>(h.metadata, data, bytes), h.metadata.count};
} catch (const Error& error) {
  throw Error(where_ + ": " + error.what(),
              error.cause() == Cause::kInvalid ? Cause::kDamaged : error.cause());
}

std::unique_ptr<Operator> PlanFile::create(std::size_t i) const {
  const PlanFileStep& step = content_.steps[i];
  const auto descs = [&](const std::vector<int>& ids) {
    std::vector<TensorDesc> list;
    for (int id : ids) list.push_back(content_.tensors[id].desc);
    return list;
  };
  try {
    auto op = find_operator_type(step.kind, step.algorithm).create(step.data, content_.isa);
    require_tensors(*op, descs(step.inputs), descs(step.outputs));
    return op;
  } catch (const Error& error) {
    throw Error(where_ + ": step " + std::to_string(i) + " (" + step.kind + "/" + step.algorithm +
                    "): " + error.what(),
                Cause::kDamaged);
  }
}

}  // namespace activsparse

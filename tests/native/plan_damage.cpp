// Plans that were cut or altered, for the address sanitizer: none may be accepted, none may be read
// beyond its end. Where the checksum is made to fit again, the tables' own checks are left: what
// they let pass must still give an executor that stays inside its arena. Exits with 0 when all
// holds.
#include <unistd.h>

#include <cstddef>
#include <cstdio>
#include <cstring>
#include <random>

#include "plan/crc32.h"
#include "plan/layout.h"
#include "plan/plan_file.h"

using namespace activsparse;

namespace {

OpSpec spec_of(const char* kind, const TensorDesc& in, const TensorDesc& out) {
  OpSpec spec;
  spec.kind = kind;
  spec.inputs = {in};
  spec.outputs = {out};
  return spec;
}

// NCHW input - to_nhwc - masked 3x3 convolution - global average pool.
std::vector<uint8_t> make_plan() {
  const TensorDesc image{1, 9, 11, 20, 20, 1, 0}, inner{1, 9, 11, 20, 32, 0, 1};
  const TensorDesc vector{1, 1, 1, 20, 20};
  std::vector<float> weight(20 * 20 * 9, 0.01f);
  std::vector<uint8_t> mask(9 * 11, 1);
  for (std::size_t i = 0; i < mask.size(); i += 3) mask[i] = 0;
  OpSpec conv = spec_of("conv", inner, inner);
  conv.arrays["weight"] = {weight.data(), 'f', {20, 20, 3, 3}};
  conv.arrays["mask"] = {mask.data(), 'b', {9, 11}};
  for (const char* pad : {"pad_top", "pad_left", "pad_bottom", "pad_right"}) conv.ints[pad] = 1;
  const std::vector<std::pair<OpSpec, const char*>> specs = {
      {spec_of("to_nhwc", image, inner), "vector"},
      {conv, "winograd4"},
      {spec_of("global_average_pool", inner, vector), "vector"}};
  PlanContent content;
  content.isa = best_isa();
  content.inputs = {{"image", {1, 20, 9, 11}, 0}};
  content.outputs = {{"means", {1, 20}, 3}};
  const int64_t bytes = 9 * 11 * 32 * sizeof(float);
  content.tensors = {{image, -1}, {inner, 0}, {inner, bytes}, {vector, -1}};
  content.arena_bytes = 2 * bytes;
  std::vector<Blob> blobs;
  for (const auto& [spec, algorithm] : specs)
    blobs.push_back(find_operator_type(spec.kind, algorithm).pack(spec, content.isa));
  for (int i = 0; i < 3; ++i)
    content.steps.push_back({specs[i].first.kind,
                             specs[i].second,
                             {i},
                             {i + 1},
                             BlobView(blobs[i].data(), blobs[i].size())});
  content.metadata = "{}";
  std::FILE* file = std::tmpfile();
  if (file == nullptr || write_plan(content, fileno(file)) != 0) throw Error("cannot write");
  std::vector<uint8_t> bytes(static_cast<std::size_t>(lseek(fileno(file), 0, SEEK_END)));
  if (pread(fileno(file), bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size()))
    throw Error("cannot read back");
  std::fclose(file);
  return bytes;
}

// Loads a plan from a heap block of exactly its size and builds its executor.
bool accepted(const std::vector<uint8_t>& bytes) {
  Blob exact(bytes.begin(), bytes.end());
  try {
    const auto plan = PlanFile::in_memory(exact.data(), exact.size());
    const PlanContent& c = plan->content();
    std::vector<std::unique_ptr<Operator>> operators;
    std::vector<PlanStep> steps;
    for (std::size_t i = 0; i < c.steps.size(); ++i) {
      operators.push_back(plan->create(i));
      steps.push_back({operators.back().get(), c.steps[i].inputs, c.steps[i].outputs});
    }
    std::vector<int> inputs, outputs;
    for (const PlanValue& value : c.inputs) inputs.push_back(value.tensor);
    for (const PlanValue& value : c.outputs) outputs.push_back(value.tensor);
    if (c.arena_bytes > 1 << 26) return false;  // memory the machine need not have
    Executor executor(c.tensors, std::move(steps), inputs, outputs, c.arena_bytes, Workforce{});
    return true;
  } catch (const Error&) {
    return false;
  }
}

void seal(std::vector<uint8_t>& bytes) {
  std::memset(bytes.data() + offsetof(PlanHeader, checksum), 0, sizeof(uint32_t));
  const uint32_t checksum = crc32(bytes.data(), bytes.size());
  std::memcpy(bytes.data() + offsetof(PlanHeader, checksum), &checksum, sizeof(checksum));
}

int fail(const char* what, std::size_t at) {
  std::printf("%s, at %zu\n", what, at);
  return 1;
}

}  // namespace

int main() {
  const std::vector<uint8_t> sound = make_plan();
  if (!accepted(sound)) return fail("a sound plan was refused", 0);
  for (std::size_t size = 0; size < sound.size(); size += size < 2048 ? 1 : 997)
    if (accepted({sound.begin(), sound.begin() + static_cast<std::ptrdiff_t>(size)}))
      return fail("a cut plan was accepted", size);
  std::mt19937 random(0);
  PlanHeader header;
  std::memcpy(&header, sound.data(), sizeof(header));
  const std::size_t tables = header.metadata.offset;
  int passed = 0;
  for (std::size_t at = 0; at < sound.size(); at += at < tables ? 1 : 601) {
    std::vector<uint8_t> bad = sound;
    bad[at] ^= static_cast<uint8_t>(1 + random() % 255);
    if (accepted(bad)) return fail("an altered plan was accepted", at);
    if (at >= tables) continue;
    seal(bad);
    passed += accepted(bad);
  }
  std::printf("ok: %zu bytes, %d forged tables made sense\n", sound.size(), passed);
  return 0;
}

#include "integrations/onnxruntime/weights.h"

#include <charconv>

#include "plan/crc32.h"

namespace activsparse {
namespace {

// The engine writes the metadata itself; inside of a text it would write \" for a quote.
constexpr std::string_view kBefore = "\"constants\": \"";
constexpr size_t kDigits = 8;

uint32_t digest(std::string_view text) { return crc32(text.data(), text.size()); }

uint32_t digest(const void* data, uint64_t bytes) {
  const uint32_t crc = crc32(data, bytes);
  unsigned char size[8];  // little-endian
  for (int i = 0; i < 8; ++i) size[i] = static_cast<unsigned char>(bytes >> 8 * i);
  return crc32(size, sizeof size, crc);
}

bool ends_as_a_noted_one(std::string_view name, const Weights& noted) {
  for (; !name.empty(); name.remove_prefix(1))
    if (noted.count(digest(name)) != 0) return true;
  return false;
}

bool is_constant(const ort::Api& api, const ort::ValueInfo* value) {
  bool constant = false;
  if (value != nullptr) check(api, api.is_constant(value, &constant));
  return constant;
}

uint32_t content(const ort::Api& api, const ort::ValueInfo* weight) {
  const ort::Value* value = nullptr;
  check(api, api.initializer(weight, &value));
  size_t bytes = 0;
  void* data = nullptr;
  check(api, api.bytes(value, &bytes));
  check(api, api.data(const_cast<ort::Value*>(value), &data));
  return digest(data, bytes);
}

}  // namespace

Weights weights_noted(std::string_view metadata) {
  Weights noted;
  size_t at = metadata.find(kBefore);
  if (at == metadata.npos) return noted;
  at += kBefore.size();
  for (; at + 2 * kDigits <= metadata.size(); at += 2 * kDigits) {
    uint32_t pair[2];
    for (size_t i = 0; i < 2; ++i) {
      const char* first = metadata.data() + at + i * kDigits;
      if (std::from_chars(first, first + kDigits, pair[i], 16).ptr != first + kDigits) return noted;
    }
    noted[pair[0]] = pair[1];
  }
  return noted;
}

std::string why_unknown(const ort::Api& api, const std::vector<const ort::Node*>& nodes,
                        const Weights& noted) {
  bool any = false, known = false;
  for (const ort::Node* node : nodes)
    for (const ort::ValueInfo* value : inputs_of(api, node)) {
      if (!is_constant(api, value)) continue;
      any = true;
      const std::string name = name_of(api, value);
      const auto found = noted.find(digest(name));
      if (found != noted.end() && content(api, value) != found->second)
        return "the model's constant '" + name +
               "' holds something else than when the plan was compiled; compile the plan from this "
               "model or, if ONNX Runtime has changed it since, as it does to move transpositions, "
               "from the model it writes with the session option optimized_model_filepath";
      known = known || found != noted.end() || ends_as_a_noted_one(name, noted);
    }
  if (known || !any || noted.empty()) return {};
  return "the model has no weight of the one the plan was compiled from; compile the plan from "
         "this "
         "model";
}

}  // namespace activsparse

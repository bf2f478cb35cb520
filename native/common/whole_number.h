// Numbers in what a user wrote.
#pragma once
#include <charconv>
#include <optional>
#include <string>

namespace activsparse {

// The whole number that `text` is, if it is one from `least` to `most`.
inline std::optional<int> whole_number(const std::string& text, int least, int most) {
  int number = 0;
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, number);
  if (error != std::errc() || stop != end || number < least || number > most) return std::nullopt;
  return number;
}

}  // namespace activsparse

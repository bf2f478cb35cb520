// Runs packed operators for another process: how tests reach an instruction set that only an
// emulator has (emulated.py). Reads requests from standard input until it ends, writes answers to
// standard output. All numbers are little-endian.
//
// All that an operator may touch lies before guard pages. Built with sanitizers
// (ACTIVSPARSE_SANITIZE=operators) it is how the tests of operators run under them.
//
// Request: u32 length and text of kind, algorithm, instruction set; u32 length and bytes of the
// packed data; u32 number of arrays it reads, each as u32 bytes and data; the same for those it
// writes, whose content it may leave in place. Answer: u32 length and text of an error, then, where
// that is empty, the arrays written.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <deque>

#include "guarded.h"
#include "operators/operator.h"

using namespace activsparse;

namespace {

void read_bytes(void* data, std::size_t bytes) {
  if (std::fread(data, 1, bytes, stdin) != bytes) std::exit(0);
}

uint32_t read_count() {
  uint32_t count = 0;
  read_bytes(&count, sizeof(count));
  return count;
}

template <class Container>
Container read_items() {
  Container items;
  items.resize(read_count());
  read_bytes(items.data(), items.size() * sizeof(items[0]));
  return items;
}

std::vector<Blob> read_arrays() {
  std::vector<Blob> arrays(read_count());
  for (Blob& array : arrays) array = read_items<Blob>();
  return arrays;
}

void run(const std::string& kind, const std::string& algorithm, const std::string& isa,
         const Blob& data, const std::vector<Blob>& inputs, std::vector<Blob>& outputs) {
  const Guarded blob(data.size(), kAlignment);
  std::copy(data.begin(), data.end(), blob.data());
  const auto op = find_operator_type(kind, algorithm)
                      .create(BlobView(blob.data(), blob.size()), isa_from_name(isa));
  std::vector<const void*> in;
  std::vector<void*> out;
  std::deque<Guarded> arrays;
  const auto guarded = [&](const Blob& array) {
    arrays.emplace_back(array.size());
    std::copy(array.begin(), array.end(), arrays.back().data());
    return arrays.back().data();
  };
  for (const Blob& array : inputs) in.push_back(guarded(array));
  for (const Blob& array : outputs) out.push_back(guarded(array));
  const Guarded scratch(op->scratch_bytes(), kAlignment);
  const Guarded shared(op->shared_scratch_bytes(), kAlignment);
  const RunArgs args{in.data(), out.data(), scratch.data(), shared.data()};
  for (int phase = 0; phase < op->phases(); ++phase) op->run(args, phase, 0, op->tasks(phase));
  for (std::size_t i = 0; i < outputs.size(); ++i)
    std::copy_n(static_cast<const uint8_t*>(out[i]), outputs[i].size(), outputs[i].data());
}

}  // namespace

int main() {
  for (;;) {
    const auto kind = read_items<std::string>(), algorithm = read_items<std::string>();
    const auto isa = read_items<std::string>();
    const auto data = read_items<Blob>();
    const std::vector<Blob> inputs = read_arrays();
    std::vector<Blob> outputs = read_arrays();
    std::string failure;
    try {
      run(kind, algorithm, isa, data, inputs, outputs);
    } catch (const std::exception& error) {
      failure = error.what();
    }
    const auto length = static_cast<uint32_t>(failure.size());
    std::fwrite(&length, sizeof(length), 1, stdout);
    std::fwrite(failure.data(), 1, length, stdout);
    if (failure.empty())
      for (const Blob& array : outputs) std::fwrite(array.data(), 1, array.size(), stdout);
    std::fflush(stdout);
  }
}

// Runs packed operators for another process: how tests reach an instruction set that only an
// emulator has (emulated.py). Reads requests from standard input until it ends, writes answers to
// standard output. All numbers are little-endian.
//
// Request: u32 length and text of kind, algorithm, instruction set; u32 length and bytes of the
// packed data; u32 number of arrays it reads, each as u32 floats and data; the same for those it
// writes, whose content it may leave in place. Answer: u32 length and text of an error, then, where
// that is empty, the arrays written.
#include <cstdio>
#include <cstdlib>

#include "operators/operator.h"

using namespace activsparse;

namespace {

using Floats = std::vector<float, AlignedAllocator<float>>;

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

std::vector<Floats> read_arrays() {
  std::vector<Floats> arrays(read_count());
  for (Floats& array : arrays) array = read_items<Floats>();
  return arrays;
}

void run(const std::string& kind, const std::string& algorithm, const std::string& isa,
         const Blob& data, const std::vector<Floats>& inputs, std::vector<Floats>& outputs) {
  const auto op = find_operator_type(kind, algorithm)
                      .create(BlobView(data.data(), data.size()), isa_from_name(isa));
  std::vector<const float*> in;
  std::vector<float*> out;
  for (const Floats& array : inputs) in.push_back(array.data());
  for (Floats& array : outputs) out.push_back(array.data());
  Blob scratch(op->scratch_bytes()), shared(op->shared_scratch_bytes());
  const RunArgs args{in.data(), out.data(), scratch.data(), shared.data()};
  for (int phase = 0; phase < op->phases(); ++phase) op->run(args, phase, 0, op->tasks(phase));
}

}  // namespace

int main() {
  for (;;) {
    const auto kind = read_items<std::string>(), algorithm = read_items<std::string>();
    const auto isa = read_items<std::string>();
    const auto data = read_items<Blob>();
    const std::vector<Floats> inputs = read_arrays();
    std::vector<Floats> outputs = read_arrays();
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
      for (const Floats& array : outputs)
        std::fwrite(array.data(), sizeof(float), array.size(), stdout);
    std::fflush(stdout);
  }
}

// Specs in, packed operators out.
#include <algorithm>
#include <cstring>

#include "bindings/spec.h"
#include "executor/executor.h"
#include "executor/shares.h"
#include "executor/thread_pool.h"
#include "operators/checks.h"
#include "operators/tile_cover.h"

namespace activsparse {
namespace {

std::unique_ptr<PackedOperator> pack(const PySpec& py, const std::string& algorithm,
                                     const std::string& isa_name) {
  const OpSpec& spec = py.spec;
  const OperatorType& type = find_operator_type(spec.kind, algorithm);
  auto packed = std::make_unique<PackedOperator>();
  packed->kind = spec.kind;
  packed->algorithm = algorithm;
  packed->isa = any_isa_from_name(isa_name);
  packed->threads = spec.threads;
  packed->inputs = spec.inputs;
  packed->outputs = spec.outputs;
  nb::gil_scoped_release release;
  const std::string reason = type.unsupported(spec, packed->isa);
  if (!reason.empty())
    throw Error(spec.kind + "/" + algorithm + " cannot run this operator: " + reason);
  packed->owned = type.pack(spec, packed->isa);
  packed->blob = BlobView(packed->owned.data(), packed->owned.size());
  packed->op = type.create(packed->blob, packed->isa);
  return packed;
}

std::unique_ptr<PackedOperator> unpack(const std::string& kind, const std::string& algorithm,
                                       const std::string& isa_name, const ConstArray& data,
                                       std::vector<TensorDesc> inputs,
                                       std::vector<TensorDesc> outputs) {
  const OperatorType& type = find_operator_type(kind, algorithm);
  if (data.dtype() != nb::dtype<uint8_t>()) throw Error("a packed operator's data must be uint8");
  auto packed = std::make_unique<PackedOperator>();
  packed->kind = kind;
  packed->algorithm = algorithm;
  packed->isa = any_isa_from_name(isa_name);
  packed->inputs = std::move(inputs);
  packed->outputs = std::move(outputs);
  const auto* bytes = static_cast<const uint8_t*>(data.data());
  if (reinterpret_cast<uintptr_t>(bytes) % kAlignment == 0) {
    packed->borrowed = data;
  } else {
    packed->owned.assign(bytes, bytes + data.size());
    bytes = packed->owned.data();
  }
  packed->blob = BlobView(bytes, data.size());
  packed->op = type.create(packed->blob, packed->isa);
  require_tensors(*packed->op, packed->inputs, packed->outputs);
  return packed;
}

// Moves the data of operators that have their own into one block of memory, in this order. Whatever
// one by one would lie on small pages, and on what is left of a huge one, lies on huge pages then,
// and reading beyond an operator's end fetches the next one's beginning.
void gather(const std::vector<nb::object>& operators) {
  std::vector<PackedOperator*> moved;
  std::size_t bytes = 0;
  const auto room = [](const Blob& blob) {
    return (blob.size() + kAlignment - 1) / kAlignment * kAlignment;
  };
  for (const nb::object& object : operators) {
    auto& packed = nb::cast<PackedOperator&>(object);
    if (packed.owned.empty() || std::find(moved.begin(), moved.end(), &packed) != moved.end())
      continue;
    moved.push_back(&packed);
    bytes += room(packed.owned);
  }
  const auto block = std::make_shared<PageBuffer>(bytes);
  std::uint8_t* at = block->data();
  for (PackedOperator* packed : moved) {
    const std::size_t size = packed->owned.size(), taken = room(packed->owned);
    std::memcpy(at, packed->owned.data(), size);
    packed->blob = BlobView(at, size);
    packed->op =
        find_operator_type(packed->kind, packed->algorithm).create(packed->blob, packed->isa);
    packed->gathered = block;
    Blob().swap(packed->owned);  // at once: two copies of a network need not fit
    at += taken;
  }
}

// Every operator reads and writes exactly the tensors it was packed for, so sizes can be checked
// before it runs.
template <class Array>
auto pointers_of(const std::vector<Array>& arrays, const std::vector<TensorDesc>& descs,
                 const std::string& what) {
  if (arrays.size() != descs.size())
    throw Error("the operator has " + std::to_string(descs.size()) + " " + what + "s, got " +
                std::to_string(arrays.size()));
  std::vector<decltype(data_of(arrays[0], DType::kFloat32, what))> pointers;
  for (size_t i = 0; i < arrays.size(); ++i) {
    const std::string name = what + " " + std::to_string(i);
    pointers.push_back(data_of(arrays[i], descs[i].dtype, name));
    if (static_cast<int64_t>(arrays[i].size()) < tensor_extent(descs[i]))
      throw Error(name + " needs " + std::to_string(tensor_extent(descs[i])) +
                  " elements, got shape " + shape_text(arrays[i]));
  }
  return pointers;
}

void run_operator(const PackedOperator& packed, const std::vector<InputArray>& inputs,
                  const std::vector<OutputArray>& outputs) {
  require_available(packed.isa);
  const auto in = pointers_of(inputs, packed.inputs, "input");
  const auto out = pointers_of(outputs, packed.outputs, "output");
  Blob scratch(packed.op->scratch_bytes()), shared(packed.op->shared_scratch_bytes());
  const RunArgs args{in.data(), out.data(), scratch.data(), shared.data()};
  nb::gil_scoped_release release;
  for (int phase = 0; phase < packed.op->phases(); ++phase)
    for (int t = 0; t < packed.threads; ++t) {
      const int tasks = packed.op->tasks(phase);
      const int begin = TaskQueue::first(t, tasks, packed.threads);
      const int end = TaskQueue::first(t + 1, tasks, packed.threads);
      if (begin < end) packed.op->run(args, phase, begin, end);
    }
}

std::vector<std::tuple<int, int, uint64_t, int, int>> tile_cover(
    const nb::ndarray<nb::ro, nb::ndim<2>, nb::c_contig, nb::device::cpu>& mask, int size,
    int stride) {
  if (mask.dtype() != nb::dtype<bool>() && mask.dtype() != nb::dtype<uint8_t>())
    throw Error("the mask must be bool or uint8");
  if ((size != 2 && size != 4 && size != 6) || (stride != 1 && stride != 2) ||
      std::max(mask.shape(0), mask.shape(1)) > 32767)
    throw Error("tiles are 2, 4 or 6 wide, strides 1 or 2, maps at most 32767");
  std::vector<std::tuple<int, int, uint64_t, int, int>> tiles;
  for (const CoverTile& tile :
       cover_with_tiles(static_cast<const uint8_t*>(mask.data()), static_cast<int>(mask.shape(0)),
                        static_cast<int>(mask.shape(1)), size, stride))
    tiles.emplace_back(tile.y, tile.x, tile.keep, tile.short_height ? winograd_short(size) : size,
                       tile.short_width ? winograd_short(size) : size);
  return tiles;
}

}  // namespace

void bind_operators(nb::module_& m) {
  m.def(
      "computes_halves",
      [](const std::string& name) {
        const Isa isa = any_isa_from_name(name);
        const std::vector<Isa> here = available_isas();
        const bool runs = std::find(here.begin(), here.end(), isa) != here.end();
        return runs ? computes_halves(isa) : packs_halves(isa);
      },
      nb::arg("isa"),
      "Whether operators on float16 can be packed for an instruction set, and if this machine has\n"
      "it, run.");
  nb::class_<TensorDesc>(m, "TensorDesc", "Shape and layout of one activation tensor (NHWC).")
      .def(
          "__init__",
          [](TensorDesc* t, int n, int h, int w, int c, int stride, bool nchw, bool padded,
             const std::string& dtype) {
            new (t) TensorDesc{n, h, w, c, stride, nchw, padded, dtype_of(dtype)};
          },
          nb::arg("n"), nb::arg("h"), nb::arg("w"), nb::arg("c"), nb::arg("stride"),
          nb::arg("nchw") = false, nb::arg("padded") = false, nb::arg("dtype") = "float32")
      .def_ro("n", &TensorDesc::n)
      .def_ro("h", &TensorDesc::h)
      .def_ro("w", &TensorDesc::w)
      .def_ro("c", &TensorDesc::c)
      .def_ro("stride", &TensorDesc::stride)
      .def_prop_ro("nchw", [](const TensorDesc& t) { return t.nchw != 0; })
      .def_prop_ro("padded", [](const TensorDesc& t) { return t.padded != 0; })
      .def_prop_ro("dtype", [](const TensorDesc& t) { return std::string(name_of(t.dtype)); })
      .def_prop_ro("itemsize", [](const TensorDesc& t) { return size_of(t.dtype); })
      .def_prop_ro("extent", &tensor_extent,
                   "Elements from the first one to the end of the last pixel.");

  nb::class_<PySpec>(m, "Spec", "What one operator shall compute; see docs/operators.md.")
      .def(nb::init<std::string, nb::dict, nb::dict, std::vector<TensorDesc>,
                    std::vector<TensorDesc>>(),
           nb::arg("kind"), nb::arg("attributes"), nb::arg("arrays"), nb::arg("inputs"),
           nb::arg("outputs"))
      .def_prop_rw(
          "threads", [](const PySpec& py) { return py.spec.threads; },
          [](PySpec& py, int threads) {
            if (threads < 1) throw Error("threads must be at least 1");
            py.spec.threads = threads;
          },
          "How many threads it will run on.")
      .def(
          "slim",
          [](const PySpec& py, const std::vector<std::string>& keep) {
            return PySpec(slim(py.spec, keep), py.keep);
          },
          nb::arg("keep"),
          "A convolution's copy with at most 64 channels, no residual, and of the arrays beside "
          "the\n"
          "weight those named: what it skips shows on it, and it is packed in no time.")
      .def(
          "algorithms",
          [](const PySpec& spec, const std::string& isa) {
            std::vector<std::tuple<std::string, std::string>> rows;
            for (const OperatorType& type : operator_types())
              if (spec.spec.kind == type.kind)
                rows.emplace_back(type.algorithm,
                                  type.unsupported(spec.spec, any_isa_from_name(isa)));
            return rows;
          },
          nb::arg("isa"),
          "(algorithm, why it cannot run this spec or '') for every algorithm of this kind.");

  nb::class_<PackedOperator>(m, "PackedOperator",
                             "One operator packed for one algorithm and instruction set.")
      .def_ro("kind", &PackedOperator::kind)
      .def_ro("algorithm", &PackedOperator::algorithm)
      .def_ro("inputs", &PackedOperator::inputs)
      .def_ro("outputs", &PackedOperator::outputs)
      .def_prop_ro("isa", [](const PackedOperator& p) { return std::string(isa_name(p.isa)); })
      .def_prop_ro("nbytes", [](const PackedOperator& p) { return p.blob.size(); })
      .def_prop_ro("kernel", [](const PackedOperator& p) { return p.op->kernel(); })
      .def_prop_ro("macs", [](const PackedOperator& p) { return p.op->macs(); })
      .def_prop_ro("half_weights", [](const PackedOperator& p) { return p.op->half_weights(); })
      .def_prop_ro("index_bytes", [](const PackedOperator& p) { return p.op->index_bytes(); })
      .def(
          "longest_share",
          [](const PackedOperator& p, int threads) {
            if (threads < 1) throw Error("threads must be at least 1");
            return longest_share(*p.op, threads);
          },
          nb::arg("threads"),
          "The longest share of its work over the mean, on so many threads, by estimate.")
      .def_prop_ro(
          "data",
          [](nb::handle_t<PackedOperator> self) {
            const auto& p = nb::cast<const PackedOperator&>(self);
            return nb::ndarray<nb::numpy, const uint8_t, nb::ndim<1>>(p.blob.data(),
                                                                      {p.blob.size()}, self);
          },
          "The blob's bytes, read-only uint8 (nbytes,).");
  m.def("pack", &pack, nb::arg("spec"), nb::arg("algorithm"), nb::arg("isa"),
        "Pack for any instruction set the engine knows; running needs one this machine has.");
  m.def(
      "unpack", &unpack, nb::arg("kind"), nb::arg("algorithm"), nb::arg("isa"), nb::arg("data"),
      nb::arg("inputs"), nb::arg("outputs"),
      "A packed operator back from its `data`: used in place (and kept alive) when it starts at a "
      "64-byte boundary, as in a mapped plan file, else copied.");
  m.def(
      "gather", &gather, nb::arg("operators"),
      "Move the data of operators into one block of memory on huge pages, in this order. Nothing\n"
      "may be using them: executors are made of them afterwards.");
  m.def("run_operator", &run_operator, nb::arg("packed"), nb::arg("inputs"), nb::arg("outputs"),
        "Run one operator on contiguous float32 arrays, one thread.");
  m.def("tile_cover", &tile_cover, nb::arg("mask"), nb::arg("size"), nb::arg("stride") = 1,
        "The output tiles a Winograd convolution computes for a mask (OH, OW): (y, x, keep, "
        "height, width), where bit i * size + j of keep is set if the tile writes position "
        "(y + i, x + j).");
}

}  // namespace activsparse

"""How fully the NEON inner loops use a Raspberry Pi's cores, as llvm-mca models them.

    python benchmarks/mca.py            # prints the table
    python benchmarks/mca.py --write    # puts it into docs/neon.md

Each kernel is cross-compiled with the engine's flags, its innermost loop is cut out of the
assembly, and llvm-mca counts the cycles of a few hundred rounds. No cache is modelled and nothing
is timed: see docs/neon.md. Needs Debian's g++-aarch64-linux-gnu and llvm-19.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "neon.md"
COMPILER = "aarch64-linux-gnu-g++"
FLAGS = ["-O3", "-std=c++17", "-DNDEBUG", "-fPIC", "-mtune=cortex-a72", "-fno-schedule-insns"]
ROUNDS = 300
# LLVM has no model of the A76 itself; the Neoverse N1 is the same core for servers.
CORES = {"Cortex-A72": ("cortex-a72", 1), "Cortex-A76": ("neoverse-n1", 2)}
# Kernels on bytes and on float16: the flags of each kind, and the cores that run it.
KINDS = {
    "BytesNeon": ([], ["Cortex-A72"]),
    "BytesDotprod": (["-march=armv8.2-a+dotprod"], ["Cortex-A76"]),
    "HalvesFp": (["-march=armv8.2-a+fp16"], ["Cortex-A76"]),
}

# Functions that hold one inner loop each. `flatten` inlines what they call.
SOURCE = """
#include "kernels/simd_neon.h"
#include "kernels/depthwise.h"
#include "kernels/depthwise_block.h"
#include "kernels/grouped.h"
#include "kernels/gemm.h"
#include "kernels/tap_product.h"
#include "kernels/winograd_kernels.h"
namespace activsparse {
#define GEMM(R, N, gather) template void gemm_tile<VecNeon, R, N, gather>(const GemmArgs&);
#define ROWS(R, N) template void winograd_rows<VecNeon, R, N>(const float*, int64_t, int, \\
  const float*, float*, int64_t, bool, const WinogradFetch&);
#define INPUT(F) template void winograd_input_vectors<VecNeon, WinogradTile<F, F>>( \\
  const float*, int64_t, int64_t, int, float*, int64_t);
GEMM(6, 4, false) GEMM(8, 3, false) GEMM(12, 2, false) GEMM(16, 1, false)
GEMM(6, 4, true) GEMM(8, 3, true)
template void tap_product<VecNeon, 6, 4>(const TapProductArgs&);
ROWS(6, 4) ROWS(9, 3) ROWS(14, 2) ROWS(14, 1)
INPUT(WinogradFull6) INPUT(WinogradFull4) INPUT(WinogradFull2)
template <class F>
void output_loop(const float* m, int64_t stride, const WinogradTarget& t, VecNeon lo, VecNeon hi,
                 float* const* y) {
  for (int c = 0; c < t.channels; c += VecNeon::kWidth)
    winograd_output_vector<VecNeon, WinogradTile<F, F>>(
      m + c, stride, VecNeon::load(t.bias + c),
      [&](int i, int j, VecNeon v) __attribute__((always_inline)) {
        min(hi, max(lo, v)).store(y[i * F::kOut + j] + c);
      });
}
#define OUTPUT(F) template void output_loop<F>(const float*, int64_t, const WinogradTarget&, \\
  VecNeon, VecNeon, float* const*);
OUTPUT(WinogradFull6) OUTPUT(WinogradFull4) OUTPUT(WinogradFull2)
template <int K, int S>
__attribute__((flatten)) void block_loop(const DepthwiseBlockArgs& args, int64_t first) {
  DepthwiseBlockArgs a = args;
  Epilogue none;
  a.keep = nullptr, a.places = nullptr, a.residual = nullptr, a.epilogue = &none;
  if constexpr (K == 3)  // the loop over columns
    depthwise_columns<VecNeon, K, S, 4, false, true>(a, first, VecNeon::kWidth);
  else
    for (int64_t c = first; c < a.channels; c += VecNeon::kWidth)
      depthwise_window<VecNeon, K, S, 2, 4, false>(a, 0, c, VecNeon::kWidth);
}
template void block_loop<3, 1>(const DepthwiseBlockArgs&, int64_t);
template void block_loop<3, 2>(const DepthwiseBlockArgs&, int64_t);
template void block_loop<5, 1>(const DepthwiseBlockArgs&, int64_t);
template void block_loop<5, 2>(const DepthwiseBlockArgs&, int64_t);
// A column of N rows of kept outputs, two vectors of channels at once.
template <int S, int N>
__attribute__((flatten)) void kept_loop(const DepthwiseBlockArgs& args, int64_t c) {
  using V = Pair<VecNeon>;
  DepthwiseBlockArgs a = args;
  Epilogue none;
  a.residual = nullptr, a.epilogue = &none;
  const DepthwiseFinish<V, false> finish(a, c, V::kWidth);
  const float* const* lines[(N - 1) * S + 3];
  for (int i = 0; i < (N - 1) * S + 3; ++i) lines[i] = a.lines[i];
  V weights[3][3];
#pragma GCC unroll 16
  for (int i = 0; i < 9; ++i)
    weights[i / 3][i % 3] = V::load(a.weights + i * a.weight_stride + c);
  const V start = V::load(a.start + c);
  for (int x = 0; x < a.columns; ++x) {
    V sums[N];
    depthwise_column_sums<V, 3, S, N, false>(lines, x * S, c, V::kWidth, start, weights, sums);
    for (int y = 0; y < N; ++y) finish.store_kept(sums[y], y, x);
  }
}
template void kept_loop<1, 1>(const DepthwiseBlockArgs&, int64_t);
template void kept_loop<1, 2>(const DepthwiseBlockArgs&, int64_t);
template void kept_loop<2, 2>(const DepthwiseBlockArgs&, int64_t);
void tile_loop(const DepthwiseArgs& args) {
  depthwise_vectors<VecNeon, 8, 3, false>(args, 0, VecNeon::kWidth);
}
void any_loop(const DepthwiseBlockArgs& args, const float* const* line, float* out) {
  VecNeon sums[4][4];
  for (int i = 0; i < 16; ++i) sums[i / 4][i % 4] = VecNeon::load(out + 4 * i);
  add_line<VecNeon, 4, 4, 0, 3, false, 0>(args, line, args.weights, args.weight_stride, 0, 4, sums);
  for (int i = 0; i < 16; ++i) sums[i / 4][i % 4].store(out + 4 * i);
}
template void grouped_rows<VecNeon, 12, 2, false>(const GroupedArgs&, const float* const*,
                                                  float* const*, const float* const*);
template void grouped_rows<VecNeon, 6, 4, false>(const GroupedArgs&, const float* const*,
                                                 float* const*, const float* const*);
}
"""
BYTES_SOURCE = """
#include "kernels/bytes_neon.h"
#include "kernels/maps_u8.h"
namespace activsparse {
#define PRODUCT(R, N) template void product_u8_tile<TYPE, R, N>(const ProductU8Args&);
PRODUCT(6, 4) PRODUCT(6, 3) PRODUCT(8, 2) PRODUCT(8, 1)
template <class D, int kLines, int kQuads>
__attribute__((flatten)) void columns_loop(const DepthwiseColumnsU8Args& args) {
  FinishU8 finish = *args.finish;
  finish.rescaled = 0;
  DepthwiseColumnsU8Args a = args;
  a.finish = &finish, a.channels = 4 * D::kWidth;
  columns<D, kLines, kQuads>(a);
}
template void columns_loop<TYPE, 3, 1>(const DepthwiseColumnsU8Args&);
template void columns_loop<TYPE, 5, 2>(const DepthwiseColumnsU8Args&);
}
"""
HALVES_SOURCE = """
#include "kernels/depthwise_f16.h"
#include "kernels/halved.h"
#include "kernels/halves_fp16.h"
#include "kernels/product_f16.h"
namespace activsparse {
#define PRODUCT(R, N) template void product_f16_tile<HalvesFp16, R, N>(const ProductF16Args&);
PRODUCT(6, 4) PRODUCT(8, 3) PRODUCT(12, 2) PRODUCT(16, 1)
void halves_loop(const DepthwiseF16Args& args) {
  depthwise_f16_vectors<HalvesFp16, 8, 3, false>(args, 0, 8);
}
}
"""
# What the reader knows a function as: pattern of its name, and who runs it.
TITLES = [
    (r"gemm_tile<.*, (\d+), (\d+), false>", r"product, \1 rows x \2 vectors"),
    (r"gemm_tile<.*, (\d+), (\d+), true>", r"stem's product, \1 x \2"),
    (r"tap_product<.*, (\d+), (\d+)>", r"live taps' product, \1 x \2"),
    (r"winograd_rows<.*, (\d+), (\d+)>", r"Winograd product, \1 x \2"),
    (r"winograd_input_vectors<.*WinogradFull(\d), .*>", r"Winograd input, F(\1x\1)"),
    (r"output_loop<.*WinogradFull(\d)>", r"Winograd output, F(\1x\1)"),
    (r"block_loop<(\d), (\d)>", r"depthwise block \1x\1, stride \2"),
    (r"kept_loop<(\d), 1>", r"depthwise 3x3, a kept output"),
    (r"kept_loop<(\d), 2>", r"depthwise 3x3, two kept in a column, stride \1"),
    (r"tile_loop|depthwise_vectors<", "depthwise, single positions"),
    (r"any_loop", "depthwise block of any kernel"),
    (r"grouped_rows<.*, (\d+), (\d), false>", r"groups of \2, \1 rows"),
    (r"product_u8_tile<.*BytesNeon, (\d), (\d)>", r"int8 product, \1 x \2"),
    (r"product_u8_tile<.*BytesDotprod, (\d), (\d)>", r"int8 product by dot products, \1 x \2"),
    (r"product_f16_tile<.*HalvesFp16, (\d+), (\d+)>", r"float16 product, \1 rows x \2 vectors"),
    (r"halves_loop|depthwise_f16_vectors<.*HalvesFp16", "float16 depthwise, single positions"),
    (r"columns_loop<.*BytesNeon, (\d), \d>", r"int8 depthwise \1x\1"),
    (r"columns_loop<.*BytesDotprod, (\d), \d>", r"int8 depthwise by dot products \1x\1"),
]
ARITHMETIC = re.compile(r"\tf(ml[as]|add|sub|mul|neg|max|min)\t")
MULTIPLY_BYTES = re.compile(r"\t(sdot|sm(ull|lsl)2?)\t")
BRANCH = re.compile(r"^\t(?:b|b\.?\w\w|cbn?z|tbn?z)\t(?:.*[, ])?(\.L\w+)$")


@dataclass(frozen=True)
class Use:
    """One loop on one core: shares of the cycles, in percent."""

    arithmetic: float
    busiest: float
    unit: str


def functions(assembly: str) -> dict[str, list[str]]:
    """Return the lines of every function."""
    found: dict[str, list[str]] = {}
    lines: list[str] | None = None
    for line in assembly.splitlines():
        if start := re.match(r"(_Z\w+):", line):
            lines = found.setdefault(start[1], [])
        elif lines is not None and line.startswith("\t.size"):
            lines = None
        elif lines is not None:
            lines.append(line)
    return found


def arithmetic(loop: list[str]) -> int:
    """Count arithmetic instructions; of loops on bytes those that multiply."""
    multiply = sum(MULTIPLY_BYTES.search(line) is not None for line in loop)
    return multiply or sum(ARITHMETIC.search(line) is not None for line in loop)


def hottest_loop(lines: list[str]) -> list[str]:
    """Return the smallest loop with the most arithmetic, without loops inside that have none."""
    labels: dict[str, int] = {}
    loops = []
    for i, line in enumerate(lines):
        if line.startswith("."):
            labels[line.rstrip(":")] = i
        elif (branch := BRANCH.match(line)) and branch[1] in labels:
            loops.append((labels[branch[1]], i))

    fused = any("\tfml" in line for line in lines)
    on_bytes = any(MULTIPLY_BYTES.search(line) for line in lines)

    def weight(begin: int, end: int) -> int:
        # Where there are fused multiply-adds, they alone tell the loop from activations around it.
        part = lines[begin : end + 1]
        if on_bytes:
            return sum(MULTIPLY_BYTES.search(line) is not None for line in part)
        return sum("\tfml" in line if fused else bool(ARITHMETIC.search(line)) for line in part)

    if on_bytes:  # around the loop over whole groups of steps lies what is left of them
        loops = [
            (a, b)
            for a, b in loops
            if not any(a <= c and d <= b and (a, b) != (c, d) and weight(c, d) for c, d in loops)
        ]
    if not loops:
        return []
    first, last = max(loops, key=lambda loop: (weight(*loop), loop[0] - loop[1]))
    # Loops that prefetch usually run zero times.
    idle = [(a, b) for a, b in loops if first < a and b < last and weight(a, b) == 0]
    return [
        line
        for i, line in enumerate(lines[first : last + 1], first)
        if re.match(r"\t[a-z]", line) and not any(a <= i <= b for a, b in idle)
    ]


def use(loop: list[str], model: str, per_cycle: int, mca: str) -> Use:
    """Run llvm-mca over a loop."""
    words = [mca, "-mtriple=aarch64-linux-gnu", f"-mcpu={model}", f"-iterations={ROUNDS}"]
    text = subprocess.run(
        words, input="\n".join(loop) + "\n", check=True, capture_output=True, text=True
    ).stdout

    def number(key: str) -> float:
        found = re.search(rf"{key}:\s+([\d.]+)", text)
        assert found, text
        return float(found[1])

    cycles = number("Total Cycles") / ROUNDS
    names = [name.split("Unit")[-1] for name in re.findall(r"^\[[\d.]+\]\s+- (\w+)$", text, re.M)]
    table = text.split("Resource pressure per iteration:\n")[1].splitlines()[1]
    pressure = [0.0 if word == "-" else float(word) for word in table.split()]
    busy = dict.fromkeys(names, 0.0)
    for name, value in zip(names, pressure, strict=True):
        busy[name] = max(busy[name], value)
    busy["dispatch"] = number("Total uOps") / ROUNDS / number("Dispatch Width")
    unit = max(busy, key=lambda name: busy[name])
    return Use(100 * arithmetic(loop) / cycles / per_cycle, 100 * busy[unit] / cycles, unit)


def compiled(source: str, flags: list[str]) -> dict[str, list[str]]:
    """Return the assembly of every function."""
    with tempfile.TemporaryDirectory() as folder:
        file, assembly = Path(folder) / "loops.cpp", Path(folder) / "loops.s"
        file.write_text(source)
        include = ["-I", str(ROOT / "native"), "-I", str(ROOT / "native/include")]
        words = [COMPILER, "-S", *FLAGS, *flags, *include, str(file), "-o", str(assembly)]
        subprocess.run(words, check=True)
        return functions(assembly.read_text())


def table(mca: str) -> str:
    """Return the table of all loops as Markdown."""
    found = compiled(SOURCE, [])
    for kind, (flags, _) in KINDS.items():
        source = HALVES_SOURCE if kind == "HalvesFp" else BYTES_SOURCE.replace("TYPE", kind)
        found |= compiled(source, flags)
    names = subprocess.run(
        ["c++filt"], input="\n".join(found), check=True, capture_output=True, text=True
    ).stdout.splitlines()
    rows = {}
    for pattern, title in TITLES:
        for name, lines in sorted(zip(names, found.values(), strict=True)):
            match = re.search(pattern, name)
            if match and (loop := hottest_loop(lines)):
                kind = re.search("(Bytes|Halves)[A-Z][a-z]+", name.replace("F16Args", "HalvesFp"))
                rows[match.expand(title)] = loop, KINDS[kind[0]][1] if kind else list(CORES)
    units = {"L": "loads", "dispatch": "dispatch", "S": "stores", "D": "address arithmetic"}
    text = [
        "| loop | instructions | arithmetic | A72 | at most | A76 | at most |",
        "|---|---:|---:|---:|---|---:|---|",
    ]
    for title, (loop, cores) in rows.items():
        cells = [title, str(len(loop)), str(arithmetic(loop))]
        for core, (model, per_cycle) in CORES.items():
            if core not in cores:
                cells += ["–", "–"]
                continue
            found_use = use(loop, model, per_cycle, mca)
            unit = units.get(found_use.unit, "arithmetic")
            most = 100 * found_use.arithmetic / found_use.busiest
            cells += [f"{found_use.arithmetic:.0f} %", f"{most:.0f} %, {unit}"]
        text.append("| " + " | ".join(cells) + " |")
    return "\n".join(text)


def main() -> None:
    """Print the table, or write it into its page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help=f"into {PAGE.relative_to(ROOT)}")
    args = parser.parse_args()
    # Versions before 17 take the N1 for an A57.
    versions = [f"llvm-mca-{version}" for version in range(22, 16, -1)]
    mca = next((path for path in map(shutil.which, versions) if path), None)
    if mca is None or shutil.which(COMPILER) is None:
        parser.error(f"needs {COMPILER} and llvm-mca 17 or newer (Debian: llvm-19)")
    text = table(mca)
    if args.write:
        begin, end = "<!-- mca:begin -->\n", "\n<!-- mca:end -->"
        page = PAGE.read_text()
        PAGE.write_text(page.split(begin)[0] + begin + text + end + page.split(end)[1])
    else:
        print(text)


if __name__ == "__main__":
    main()

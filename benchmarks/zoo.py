"""Check and time the networks of torchvision and timm, and make docs/models.md of what was found.

    python benchmarks/zoo.py check                    # right, dense and masked? hours, on any core
    taskset -c 1 python benchmarks/zoo.py time --minutes 5  # AVX2: see without_avx512.c
    python benchmarks/zoo.py publish

One network after the other, each in a process of its own, with a line of a CSV file in
benchmarks/results/zoo: what has a line is not done again, so all of it may be stopped and started
at will, and `--again NAME` strikes lines out. What is exported stays in the folder `--build`.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from activsparse.bench.machine import describe_machine, summary_line
from activsparse.bench.trial import HOLDS, NOTHING, Trial, time_model, try_model
from activsparse.engine.compile import NATIVE, target_isa
from activsparse.errors import ActivsparseError

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "benchmarks" / "results" / "zoo"
CHECKED = FOLDER / "checked.csv"
PAGE = ROOT / "docs" / "models.md"
SPARSITY = 0.3
ENOUGH = 0.95  # times as fast as the fastest other engine
_SIZE = 224

Row = dict[str, str]


def networks() -> list[str]:
    """All names, as `activsparse check` takes them."""
    from torchvision import models

    lines = (Path(__file__).parent / "zoo.txt").read_text(encoding="utf-8").splitlines()
    listed = [name for line in lines if not line.startswith("#") for name in line.split()]
    return [
        *models.list_models(module=models.segmentation),
        *(f"timm:{name}" for name in listed),
        *sorted(models.list_models(module=models), key=_is_huge),
    ]


def _is_huge(name: str) -> bool:
    """Gigabytes of weights, which not every machine has room for: last."""
    return name in ("regnet_y_128gf", "vit_h_14")


def times_file() -> Path:
    """The times of this machine with the instruction set in use."""
    isa = target_isa(NATIVE).split("-")[0]  # of a processor that hides others, what is left
    return FOLDER / f"times-{isa}.csv"


def read(path: Path) -> dict[str, Row]:
    """The lines of a file by network; none if there is no such file."""
    if not path.exists():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        return {row["network"]: row for row in csv.DictReader(file)}


def append(path: Path, row: Row) -> None:
    """Add one line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    begins = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(row), lineterminator="\n")
        if begins:
            writer.writeheader()
        writer.writerow(row)


def strike(path: Path, names: Iterable[str]) -> None:
    """Remove the lines of some networks."""
    rows = read(path)
    left = [row for name, row in rows.items() if name not in names]
    if len(left) < len(rows):
        path.unlink()
        for row in left:
            append(path, row)


def files_of(name: str, build: Path) -> tuple[Path, Path]:
    """Where a network and its masked copy are."""
    stem = name.replace(":", "-")
    return build / f"{stem}.onnx", build / f"{stem}-masked.onnx"


def export(name: str, build: Path) -> Path:
    """Write a network with random weights, if it is not there."""
    from activsparse.cli.check import export_named

    path, _ = files_of(name, build)
    if not path.exists():
        build.mkdir(parents=True, exist_ok=True)
        export_named(name, path, (_SIZE, _SIZE), seed=0)
    return path


def check(name: str, build: Path) -> None:
    """Verify a network, dense and masked, and note what was found."""
    try:
        dense = export(name, build)
        trial = try_model(name, dense, _mask, session={"tune": False})
    except ActivsparseError as error:
        trial = Trial(name, f"stops: {error}")
    _note(trial, build)


def _mask(model: Path, out: Path) -> int:
    from activsparse.cli.check import mask_file
    from activsparse.input_sizes import InputSizes
    from activsparse.masks.options import UNTRAINED

    return mask_file(model, out, UNTRAINED.but(sparsity=SPARSITY), InputSizes())


def _note(trial: Trial, build: Path) -> None:
    row = {
        "network": trial.model,
        "date": today(),
        "dense": trial.dense.replace(f"{build}{os.sep}", ""),
        "masked": trial.masked.replace(f"{build}{os.sep}", ""),
        "layers": str(trial.layers),
        "relative_error": f"{trial.relative_error:.2g}",
    }
    append(CHECKED, row)
    print(*row.values(), sep="; ", flush=True)


def measure(name: str, build: Path, repeat: int) -> None:
    """Time a network that was found to hold, and note it."""
    from activsparse.pipeline.timing import engines_at_hand

    path, masked = export(name, build), files_of(name, build)[1]
    layers = _mask(path, masked)
    trial = time_model(
        Trial(name, HOLDS, HOLDS),
        path,
        masked if layers else None,
        engines_at_hand(),
        repeat=repeat,
    )
    masked.unlink(missing_ok=True)
    row = {
        "network": name,
        "date": today(),
        "machine": summary_line(describe_machine()),
        "dense_ms": _ms(trial.dense_ms),
        "masked_ms": _ms(trial.masked_ms),
        "peer": trial.peer,
        "peer_ms": _ms(trial.peer_ms),
    }
    append(times_file(), row)
    print(*row.values(), sep="; ", flush=True)


def _ms(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def today() -> str:
    """The date, as the files note it."""
    return datetime.datetime.now(datetime.timezone.utc).date().isoformat()


def each(command: str, names: Sequence[str], args: argparse.Namespace) -> None:
    """Run the command on one network after the other, each in a process of its own."""
    until = time.monotonic() + 60 * args.minutes
    for name in names:
        if time.monotonic() > until:
            return
        words = [sys.executable, __file__, command, "--build", str(args.build), "--one", name]
        words += ["--repeat", str(args.repeat)]
        status = subprocess.run(words, check=False).returncode
        if status and command == "check":  # out of memory, a crash of another engine
            _note(Trial(name, f"stops: the process ended with status {status}"), args.build)
        elif status:
            print(f"{name}: not timed, status {status}", flush=True)


def publish() -> None:
    """Write the page."""
    checked = read(CHECKED)
    times = {
        "AVX-512": read(FOLDER / "times-avx512.csv"),
        "AVX2": read(FOLDER / "times-avx2.csv"),
    }
    times = {isa: rows for isa, rows in times.items() if rows}
    names = [name for name in networks() if name in checked]
    groups = {
        "torchvision": [name for name in names if not name.startswith("timm:")],
        "timm": [name for name in names if name.startswith("timm:")],
    }
    lines = [_head(checked, times)]
    for title, members in groups.items():
        lines.append(f"\n## {title}\n")
        lines.append(
            "| network | dense | masked | layers | error "
            + "".join(f"| {isa} ms | masked ms | fastest other | dense | masked " for isa in times)
            + "|"
        )
        lines.append(
            "| --- | --- | --- | ---: | ---: "
            + "| ---: | ---: | --- | ---: | ---: " * len(times)
            + "|"
        )
        for name in members:
            cells = [name.removeprefix("timm:"), *_found(checked[name])]
            for rows in times.values():
                cells += _timed(rows.get(name))
            lines.append(f"| {' | '.join(cells)} |")
    for isa, name in (("AVX-512", "files-avx512.csv"), ("AVX2", "files-avx2.csv")):
        lines += _of_files(isa, read(FOLDER / name))
    PAGE.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _of_files(isa: str, rows: dict[str, Row]) -> list[str]:
    """The table of benchmarks/package_files.py."""
    if not rows:
        return []
    first = next(iter(rows.values()))
    lines = [
        f"\n## ONNX files in Python packages, {isa}",
        "",
        "`python benchmarks/package_files.py time`: `activsparse check FILE --time`, at the sizes",
        "given for what a file leaves open; one thread, medians, interleaved, on",
        f"{first['machine']}, {first['date']}. Where the fallback is needed, ONNX",
        "Runtime runs what the engine does not know.",
        "",
        "| file | sizes | fallback | dense | masked | layers | error "
        "| ms | masked ms | fastest other | dense | masked |",
        "| --- | --- | --- | --- | --- | ---: | ---: | ---: | ---: | --- | ---: | ---: |",
    ]
    for name, row in rows.items():
        error = f"{float(row['relative_error']):.2g}"
        ms = {key: row[key] and f"{float(row[key]):.3f}" for key in row if key.endswith("_ms")}
        cells = [name, row["sizes"], row["fallback"], row["dense"], row["masked"], row["layers"]]
        lines.append(f"| {' | '.join([*cells, error, *_timed({**row, **ms})])} |")
    return lines


def _found(row: Row) -> list[str]:
    masked = row["masked"] if row["masked"] != NOTHING else "nothing to mask"
    return [row["dense"], masked, row["layers"], row["relative_error"]]


def _timed(row: Row | None) -> list[str]:
    if row is None:
        return [""] * 5
    peer = f"{row['peer']}, {row['peer_ms']}" if row["peer"] else "none runs it"
    ratios = [
        f"{float(row['peer_ms']) / float(row[ms]):.2f}" if row["peer_ms"] and row[ms] else ""
        for ms in ("dense_ms", "masked_ms")
    ]
    return [row["dense_ms"], row["masked_ms"], peer, *ratios]


def _head(checked: dict[str, Row], times: dict[str, dict[str, Row]]) -> str:
    good = [
        name
        for name, row in checked.items()
        if row["dense"] == HOLDS and row["masked"] in (HOLDS, NOTHING)
    ]
    timm, good_timm = ([n for n in names if n.startswith("timm:")] for names in (checked, good))
    last = max(row["date"] for row in checked.values())
    text = [
        "# Networks tried",
        "",
        f"{len(checked)} architectures of torchvision and timm, of the {len(networks())} that",
        "[benchmarks/zoo.py](../benchmarks/zoo.py) tries (its head says how), with random weights,",
        f"exported at {_SIZE}x{_SIZE}, verified against ONNX Runtime as they are and with masks at",
        f"{SPARSITY:g}, as `activsparse check NAME` does, without any fallback. {len(good)} hold",
        f"dense and masked, {len(good_timm)} of {len(timm)} of timm among them. {last}.",
        "`error` is the largest difference from ONNX Runtime as a share of the output's largest",
        "magnitude.",
    ]
    for isa, rows in times.items():
        text += _summary(isa, rows)
    return "\n".join(text)


def _summary(isa: str, rows: dict[str, Row]) -> list[str]:
    """What the times say, in a paragraph."""
    ratios = {
        name.removeprefix("timm:"): float(row["peer_ms"]) / float(row["dense_ms"])
        for name, row in rows.items()
        if row["peer_ms"]
    }
    if not ratios:
        return []
    slow = [f"{n} {r:.2f}" for n, r in sorted(ratios.items(), key=lambda x: x[1]) if r < ENOUGH]
    median = statistics.median(ratios.values())
    return [
        "",
        f"{isa}: one thread, medians, interleaved, on {next(iter(rows.values()))['machine']},",
        f"{max(row['date'] for row in rows.values())}. Dense, times as fast as the fastest of ONNX",
        f"Runtime, OpenVINO and ncnn: {median:.2f} in the median of {len(ratios)} networks,",
        f"{min(ratios.values()):.2f} at least" + (f"; below {ENOUGH:g}:" if slow else "."),
        *([f"{', '.join(slow)}."] if slow else []),
    ]


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("command", choices=("check", "time", "publish"))
    parser.add_argument("--build", type=Path, default=ROOT / "build" / "zoo", help="exported files")
    parser.add_argument("--minutes", type=float, default=600.0, help="begin no network after that")
    parser.add_argument("--repeat", type=int, default=10, help="timed runs")
    parser.add_argument("--again", nargs="+", default=[], metavar="NAME", help="do these again")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="no others")
    parser.add_argument("--one", metavar="NAME", help="this one, here")
    args = parser.parse_args()
    if args.command == "publish":
        publish()
    elif args.one and args.command == "check":
        check(args.one, args.build)
    elif args.one:
        measure(args.one, args.build, args.repeat)
    else:
        file = CHECKED if args.command == "check" else times_file()
        strike(file, args.again)
        done = read(file)
        if args.command == "time":
            found = read(CHECKED)
            done |= {name: row for name, row in found.items() if row["dense"] != HOLDS}
        names = [name for name in args.only or networks() if name not in done]
        each(args.command, names, args)


if __name__ == "__main__":
    main()

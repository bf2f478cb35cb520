"""Options that the commands running this engine share."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from activsparse.cli.numbers import image_size, named_shape, positive, threads, word
from activsparse.errors import ActivsparseError
from activsparse.input_sizes import InputSizes

__all__ = [
    "add_choice_options",
    "add_engine_options",
    "add_fallback_option",
    "add_input_options",
    "add_isa_option",
    "add_peers_option",
    "add_threads_option",
    "choice_options",
    "input_shapes",
    "input_sizes",
    "session_options",
]


def add_engine_options(parser: argparse.ArgumentParser) -> None:
    """Add what a `Session` takes: sizes of inputs, --isa, --threads, --fallback, the choice."""
    add_input_options(parser)
    engine = parser.add_argument_group("engine")
    add_isa_option(engine)
    add_threads_option(
        engine, None, "default: one per physical core, or what a plan was compiled for"
    )
    add_fallback_option(engine)
    add_choice_options(engine)


def add_input_options(parser: argparse.ArgumentParser) -> None:
    """Add --input-shape, --input-size and --batch."""
    sizes = parser.add_argument_group("sizes that the model leaves open")
    sizes.add_argument(
        "--input-shape",
        metavar="NAME=SHAPE",
        type=named_shape,
        nargs="+",
        action="extend",
        default=[],
        help="whole shape of an input, for example x=1x3x224x224",
    )
    sizes.add_argument(
        "--input-size",
        metavar="HxW",
        type=image_size,
        help="height and width of the images, for example 224x224",
    )
    sizes.add_argument(
        "--batch", metavar="N", type=positive, help="number of images (default: 1 where it is open)"
    )


def input_sizes(args: argparse.Namespace) -> InputSizes:
    """Return the sizes that `add_input_options` asked for."""
    shapes: dict[str, tuple[int, ...]] = {}
    for name, shape in args.input_shape:
        if shapes.setdefault(name, shape) != shape:
            raise ActivsparseError(f"--input-shape gives '{name}' two shapes; leave one out")
    return InputSizes(shapes, args.input_size, args.batch)


def input_shapes(args: argparse.Namespace, model: Path) -> dict[str, tuple[int, ...]] | None:
    """Return the `input_shapes` of `Session` that `add_input_options` asked for."""
    sizes = input_sizes(args)
    if not sizes:
        return None
    from activsparse.engine.input_size import shapes_at

    return shapes_at(model, sizes)


def add_isa_option(parser: argparse._ActionsContainer) -> None:
    """Add --isa."""
    parser.add_argument(
        "--isa",
        metavar="NAME",
        type=word,
        help="instruction set of this engine (default: ACTIVSPARSE_ISA, else the best one; "
        "`activsparse --version` lists those of this machine)",
    )


def add_threads_option(
    parser: argparse._ActionsContainer, default: int | None, explained: str
) -> None:
    """Add --threads."""
    parser.add_argument(
        "--threads", type=threads, default=default, metavar="N", help=f"threads ({explained})"
    )


def add_peers_option(parser: argparse._ActionsContainer) -> None:
    """Add --engines: the other ones to time, None for those that are installed."""
    parser.add_argument(
        "--engines",
        type=engine_names,
        metavar="NAME,...",
        help="others to time, such as onnxruntime,openvino,ncnn (default: those installed)",
    )


def engine_names(text: str) -> tuple[str, ...]:
    """Parse NAME,... of engines that `bench.engines` knows; none where none is named."""
    from activsparse.bench.engines import ENGINES

    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    for name in names:
        if name not in ENGINES:
            raise argparse.ArgumentTypeError(
                f"no engine named {name!r}; choose from {', '.join(ENGINES)}"
            )
    return names


def add_fallback_option(
    parser: argparse._ActionsContainer, explained: str = "default: an error"
) -> None:
    """Add --fallback, which every command that reads a model takes."""
    parser.add_argument(
        "--fallback",
        choices=("onnxruntime",),
        help=f"let ONNX Runtime compute operators this engine does not know ({explained})",
    )


def add_choice_options(parser: argparse._ActionsContainer) -> None:
    """Add --no-winograd, --no-tune, --weights and --precision."""
    parser.add_argument(
        "--no-winograd",
        action="store_true",
        help="do without Winograd convolutions, which are faster but round more",
    )
    parser.add_argument(
        "--no-tune",
        action="store_true",
        help="choose algorithms by estimates, not by measurements on this machine: the same "
        "choice every time",
    )
    parser.add_argument(
        "--weights",
        choices=("float32", "float16"),
        default="float32",
        help="type that the weights of products are kept in: float16 takes half the memory and "
        "rounds each once, arithmetic stays float32 (default: float32)",
    )
    parser.add_argument(
        "--precision",
        choices=("float32", "float16"),
        default="float32",
        help="type to compute in: float16 where that is faster by estimate, on ARM processors that "
        "have instructions for it (default: float32)",
    )


def session_options(args: argparse.Namespace, model: Path | None = None) -> dict[str, Any]:
    """Return the arguments of `Session` that `add_engine_options` asked for.

    Args:
        args: the command's arguments.
        model: whose inputs are meant, by default `args.model`.
    """
    fallback = {"fallback": args.fallback} if args.fallback else {}
    return {
        "threads": args.threads,
        "isa": args.isa,
        "input_shapes": input_shapes(args, model or args.model),
        **fallback,
        **choice_options(args),
    }


def choice_options(args: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments of `Session` that `add_choice_options` asked for."""
    return {
        "winograd": not args.no_winograd,
        "tune": False if args.no_tune else "auto",
        "weights": args.weights,
        "precision": args.precision,
    }

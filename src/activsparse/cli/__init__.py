"""The `activsparse` command.

Every sub-command lives in a module of its own, `cli/<name>.py`, with `add_parser(subparsers)` and
`run(args) -> int`. Only the module of the sub-command that was asked for is imported, so
`activsparse --help` stays quick and a missing optional package is noticed by the sub-command that
needs it and by no other.

Exit status: 0 done, 1 a check failed, 2 bad input or usage, 130 interrupted.
"""

from __future__ import annotations

import argparse
import errno
import importlib
import io
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, NoReturn

from rich_argparse import RichHelpFormatter

from activsparse import __version__
from activsparse.errors import ActivsparseError

__all__ = ["build_parser", "main"]

COMMANDS = {
    "sparsify": "from a network and a folder of images to a faster network, in one command",
    "train": "train a sparse network from a recipe",
    "prune": "take channels out of a trained network",
    "sensitivity": "measure what each layer loses at several sparsities",
    "plan": "choose the masks of a network for a speed-up, at the least measured loss",
    "calibrate": "measure what convolutions cost on this machine, for activsparse plan",
    "export": "write a trained run as an ONNX file, a dense twin and a C header of masks",
    "mask": "put masks into an existing dense ONNX model, without training",
    "quantize": "make an int8 network of a float32 one, masks and all",
    "compile": "compile an ONNX model into a plan, one file that loads fast and without onnx",
    "convert": "write an ONNX model, masked or not, as a .tflite file for LiteRT",
    "verify": "compare this engine with ONNX Runtime on random inputs",
    "check": "try networks: verified dense, verified masked, timed if asked for; a line each",
    "bench": "time dense and sparse models on several engines, interleaved",
    "report": "show runs on one page: accuracy against measured time, layers, masks, predictions",
    "info": "say what is in a model file, and what the engine would do with it",
    "explain": "say per layer what is skipped, how, and what it saves",
    "run": "run a model on a .npy input",
    "detect": "find objects in pictures and draw them",
}
"""Sub-command to the line `activsparse --help` shows for it."""

EXTRAS = {
    "torch": "train",
    "torchvision": "train",
    "pytorch_lightning": "train",
    "torchmetrics": "train",
    "timm": "train",
    "tensorboard": "train",
    "sklearn": "train",
    "pydantic": "train",
    "yaml": "train",
    "onnxscript": "train",
    "torch_pruning": "prune",
    "pycocotools": "detect",
    "PIL": "train",
    "onnxruntime": "bench",
    "jinja2": "bench",
    "matplotlib": "bench",
    "plotly": "bench",
    "openvino": "engines",
    "ncnn": "engines",
    "pnnx": "engines",
    "executorch": "xnnpack",
    "ai_edge_litert": "litert",
    "flatbuffers": "litert",
    "litert_torch": "tflite",
    "nncf": "nncf",
}
"""Optional package to the extra of pyproject.toml that brings it."""

COMMAND_EXTRAS = {"prune": "prune"}
"""Sub-command to an extra that brings all it needs, not only the package first missed."""


class _Parser(argparse.ArgumentParser):
    """An argument parser with coloured help and one-line errors; sub-parsers inherit the class."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("formatter_class", RichHelpFormatter)
        kwargs.setdefault("allow_abbrev", False)
        super().__init__(*args, **kwargs)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Refuse what is unknown here: the command that does not have it names itself."""
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return found, unknown

    def error(self, message: str) -> NoReturn:
        """One line instead of argparse's usage and error."""
        self.exit(
            2, f"{ActivsparseError(f'{self.prog}: error: {message}')}; see {self.prog} --help\n"
        )


class _Formatter(logging.Formatter):
    """Marks warnings as such; other messages are as they are."""

    def format(self, record: logging.LogRecord) -> str:
        """Format one message."""
        text = super().format(record)
        return f"activsparse: warning: {text}" if record.levelno >= logging.WARNING else text


class _Version(argparse.Action):
    """Print the version and the usable instruction sets; the engine is loaded only when asked."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from activsparse import _native

        isas = ", ".join(_native.available_isas())
        print(f"activsparse {__version__} (instruction sets: {isas})")
        parser.exit()


def _module(command: str) -> Any:
    """The module of a sub-command."""
    return importlib.import_module(f"activsparse.cli.{command.replace('-', '_')}")


def build_parser(command: str | None = None) -> argparse.ArgumentParser:
    """Build the parser: all options of `command`, one line of help for every other sub-command."""
    parser = _Parser(
        prog="activsparse",
        description="Train convolutional networks that skip output positions, export them to plain "
        "ONNX, and run them faster on CPUs.",
        epilog="`activsparse COMMAND --help` explains a command.",
    )
    parser.add_argument(
        "--version",
        action=_Version,
        nargs=0,
        help="print the version and the instruction sets found here",
    )
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, summary in COMMANDS.items():
        if name == command:
            _module(name).add_parser(subparsers)
        else:
            subparsers.add_parser(name, help=summary)
    return parser


def _requested_command(argv: Sequence[str]) -> str | None:
    """The first word that is not an option (the top level has no option that takes a value)."""
    return next((word for word in argv if not word.startswith("-")), None)


def _missing_package(command: str | None, error: ModuleNotFoundError) -> str:
    package = (error.name or "").partition(".")[0]
    extra = EXTRAS.get(package)
    if extra is not None and command is not None:
        extra = COMMAND_EXTRAS.get(command, extra)
    remedy = f"pip install 'activsparse[{extra}]'" if extra else f"install {package}"
    return f"this command needs the Python package {error.name}, which is not installed; {remedy}"


def _fail(message: str) -> int:
    print(f"activsparse: error: {ActivsparseError(message)}", file=sys.stderr)
    return 2


def _open_streams() -> None:
    """Let output be printed whatever the encoding of the terminal, and where it is closed."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: PTH123, SIM115
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _discard_output() -> None:
    """Spare the interpreter its own attempt to print, at exit, what could not be printed."""
    with suppress(io.UnsupportedOperation):  # one that a program has put in its place
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _log_to_stderr() -> None:
    logger = logging.getLogger("activsparse")
    if not logger.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(_Formatter("%(message)s"))
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
    root = logging.getLogger()
    if not root.handlers:
        # Of others' messages the warnings, as without any handler. Where the root has none, some
        # packages give it one with logging.basicConfig, which then repeats each line of ours.
        others = logging.StreamHandler()
        others.setLevel(logging.WARNING)
        others.addFilter(lambda record: not record.name.startswith("activsparse"))
        root.addHandler(others)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; `argv` defaults to the process's arguments. Returns the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    command = _requested_command(arguments)
    _open_streams()
    _log_to_stderr()
    try:
        with _terminable():
            args = build_parser(command).parse_args(arguments)
            status: int = _module(args.command).run(args)
            sys.stdout.flush()
            return status
    except ActivsparseError as error:
        from activsparse.cli.wording import speller

        return _fail(error.worded(speller(command)))
    except ModuleNotFoundError as error:
        return _fail(_missing_package(command, error))
    except ImportError as error:
        # What interrupts the start of a compiled module, that module makes its own error of.
        if isinstance(error.__cause__ or error.__context__, KeyboardInterrupt):
            return 130
        if _UNMAPPED not in str(error):
            raise
        return _fail(
            f"{command or 'activsparse'}: {error}; memory is out (close other programs), or its "
            "folder is mounted without permission to execute"
        )
    except BrokenPipeError:
        _discard_output()  # the reader went away: `| head`
        return 141
    except OSError as error:
        cause = error.strerror or str(error) or type(error).__name__
        file = error.filename
        if file is None and error.errno == errno.ENOSPC:  # what is written by name has a name
            _discard_output()
            file = "standard output, or a temporary file"
        return _fail(cause if file is None else f"{file}: {cause}")
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        return _fail(
            f"{command or 'activsparse'}: out of memory; close other programs, or take a smaller "
            "model, batch or image"
        )
    except KeyboardInterrupt:
        return 130


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM ends a command as Ctrl-C does: it tidies up. A second one ends it at once."""

    def terminate(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        raise KeyboardInterrupt

    own = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    )
    if own:
        signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        if own:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


_UNMAPPED = "failed to map segment from shared object"
"""How the system's loader says that a library found no room."""


def _is_out_of_memory(error: Exception) -> bool:
    """Whether memory ran out; torch says so in words alone."""
    return isinstance(error, MemoryError) or "can't allocate memory" in str(error)

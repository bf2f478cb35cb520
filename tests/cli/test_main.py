"""The frame of the command line: help, version, errors and exit statuses."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import pytest

import activsparse
from activsparse import cli
from activsparse.errors import ActivsparseError
from activsparse.files import atomic_path


def activsparse_command(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "activsparse", *args], capture_output=True, text=True, timeout=120
    )


@pytest.fixture
def fake_command(monkeypatch: pytest.MonkeyPatch):
    """Replace the `run` sub-command by a function that takes no options."""

    def install(run) -> None:
        module = types.ModuleType("activsparse.cli.run")
        module.add_parser = lambda subparsers: subparsers.add_parser("run", help="fake")
        module.run = run
        monkeypatch.setitem(sys.modules, "activsparse.cli.run", module)

    return install


def test_help_names_every_command():
    result = activsparse_command("--help")
    assert result.returncode == 0
    for name, summary in cli.COMMANDS.items():
        assert name in result.stdout
        assert summary.split()[0] in result.stdout


def test_version_names_instruction_sets():
    from activsparse import _native

    result = activsparse_command("--version")
    assert result.returncode == 0
    assert activsparse.__version__ in result.stdout
    for isa in _native.available_isas():
        assert isa in result.stdout


@pytest.mark.parametrize("args", [[], ["no-such-command"], ["--no-such-option"]])
def test_usage_errors_are_one_line_and_exit_2(args: list[str]):
    result = activsparse_command(*args)
    assert result.returncode == 2
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("activsparse: error: ")


def test_help_loads_no_sub_command_and_no_heavy_package():
    code = (
        "import sys\n"
        "from activsparse.cli import main\n"
        "try:\n"
        "    main(['--help'])\n"
        "except SystemExit:\n"
        "    pass\n"
        "bad = [m for m in sys.modules if m in ('torch', 'onnx', 'numpy')"
        " or m.startswith('activsparse.cli.')]\n"
        "sys.exit(f'imported {bad}' if bad else 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_status_of_the_command_is_returned(fake_command):
    fake_command(lambda args: 1)
    assert cli.main(["run"]) == 1


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ActivsparseError("m.onnx: not ONNX;\n check"), "m.onnx: not ONNX; check"),
        (PermissionError(13, "Permission denied", "x.npy"), "x.npy: Permission denied"),
        (
            ModuleNotFoundError("No module named 'openvino'", name="openvino"),
            "this command needs the Python package openvino, which is not installed; "
            "pip install 'activsparse[engines]'",
        ),
    ],
)
def test_errors_are_one_line_and_exit_2(fake_command, capsys, error: Exception, line: str):
    def run(args: object) -> int:
        raise error

    fake_command(run)
    assert cli.main(["run"]) == 2
    assert capsys.readouterr().err == f"activsparse: error: {line}\n"


def test_interrupt_exits_130_quietly(fake_command, capsys):
    def run(args: object) -> int:
        raise KeyboardInterrupt

    fake_command(run)
    assert cli.main(["run"]) == 130
    assert capsys.readouterr().err == ""


def test_a_terminated_command_tidies_up(fake_command, tmp_path, capsys):
    """As an interrupted one: SIGTERM's own effect would leave what it had half written."""

    def run(args: object) -> int:
        with atomic_path(tmp_path / "out") as path:
            path.write_text("half")
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)
        return 0

    fake_command(run)
    assert cli.main(["run"]) == 130
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr().err == ""
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_closed_pipe_is_quiet():
    code = (
        "import sys, types\n"
        "module = types.ModuleType('activsparse.cli.run')\n"
        "module.add_parser = lambda s: s.add_parser('run')\n"
        "module.run = lambda args: print('x' * 1_000_000) or 0\n"
        "sys.modules['activsparse.cli.run'] = module\n"
        "from activsparse.cli import main\n"
        "sys.exit(main(['run']))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 141


def test_a_full_standard_output_is_named(dense):
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "activsparse", "explain", dense, "--repeat", "1"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.returncode == 2
    line = "activsparse: error: standard output, or a temporary file: No space left on device"
    assert done.stderr.splitlines() == [line]


def test_closed_streams_are_no_error(dense):
    command = f"{sys.executable} -m activsparse explain '{dense}' --repeat 1"
    assert subprocess.run(f"{command} >&- 2>&-", shell=True).returncode == 0


def test_names_that_are_no_text(dense, tmp_path):
    def run(*words: bytes) -> subprocess.CompletedProcess[bytes]:
        command = [sys.executable.encode(), b"-m", b"activsparse", *words]
        return subprocess.run(command, capture_output=True)

    done = run(b"compile", os.fsencode(dense), b"--out", os.fsencode(tmp_path) + b"/\xff.plan")
    assert done.returncode == 0, done.stderr
    assert b"\\udcff.plan" in done.stdout
    done = run(b"explain", b"\xfe.onnx")
    assert done.returncode == 2
    assert done.stderr == b"activsparse: error: \\udcfe.onnx: no such file; check the path\n"


def test_an_interrupt_leaves_nothing(dense, tmp_path):
    out = tmp_path / "out" / "bench.json"
    out.parent.mkdir()
    words = ["bench", "--dense", dense, "--repeat", "1000000", "--json", out]
    with subprocess.Popen(
        [sys.executable, "-m", "activsparse", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Where the tests run in the background, interrupts are ignored, by children too.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        while not list(out.parent.iterdir()) and process.poll() is None:
            time.sleep(0.05)  # the output is opened before anything is timed
        process.send_signal(signal.SIGINT)
        printed = process.communicate()
    assert (process.returncode, printed) == (130, ("", ""))
    assert list(out.parent.iterdir()) == []


def test_every_extra_exists():
    # The remedy printed for a missing package must name an extra that pip knows.
    from importlib.metadata import PackageNotFoundError, metadata

    try:
        extras = metadata("activsparse").get_all("Provides-Extra")
    except PackageNotFoundError:
        pytest.skip("not installed: running from the source tree")
    assert set(cli.EXTRAS.values()) <= set(extras or [])


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        MemoryError("std::bad_alloc"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        ImportError("libx.so: failed to map segment from shared object"),
    ],
)
def test_out_of_memory_is_one_line_and_exits_2(fake_command, capsys, error: Exception):
    def run(args):
        raise error

    fake_command(run)
    assert cli.main(["run"]) == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    assert "run: " in said
    assert "out of memory" in said or "memory is out" in said


def test_other_errors_of_the_runtime_are_not_hidden(fake_command):
    def run(args):
        raise RuntimeError("a fault of ours")

    fake_command(run)
    with pytest.raises(RuntimeError, match="a fault of ours"):
        cli.main(["run"])

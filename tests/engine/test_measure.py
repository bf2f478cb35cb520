"""The choice by measurement: what is taken, what is timed, what is kept. No real times."""

from __future__ import annotations

import json
import logging
import math
import os
import subprocess
import sys
from pathlib import Path

import graphs
import numpy as np
import pytest

from activsparse import ActivsparseError, Session, _native
from activsparse.engine.choice_cache import ChoiceCache, cache_folder
from activsparse.engine.choose import Choice, Request, able, by_cost
from activsparse.engine.graph import Node
from activsparse.engine.measure import Measured, choosing

ISA = _native.available_isas()[-1]
EQUAL = {"direct": 1.0, "winograd6": 1.0, "winograd4": 1.0, "winograd2": 1.0}


def request(channels=16, size=12, kernel=3, mask=None, network_bytes=0, **attributes) -> Request:
    rng = np.random.default_rng(0)
    pad = kernel // 2
    attributes = {
        "group": 1,
        **{f"pad_{side}": pad for side in ("top", "left", "bottom", "right")},
        **attributes,
    }
    shape = (channels, channels // attributes["group"], kernel, kernel)
    arrays = {"weight": rng.standard_normal(shape, np.float32)}
    if mask is not None:
        arrays["mask"] = mask
    node = Node("conv", "c", ("x",), ("y",), attributes, arrays)
    desc = _native.TensorDesc(1, size, size, channels, -(-channels // 16) * 16, padded=True)
    return Request(node, [desc], [desc], network_bytes)


class FakeTimer:
    """Tells given times, block after block; the last one again and again."""

    def __init__(self, **times):
        self.times = {name: list(blocks) for name, blocks in times.items()}
        self.calls: list[tuple[str, int]] = []

    def blocks(self, spec, isa, evict_bytes):
        def block(name):
            self.calls.append((name, evict_bytes))
            return self._block(name, 3)

        return block

    def _block(self, name, repeat):
        blocks = self.times[name]
        block = blocks.pop(0) if len(blocks) > 1 else blocks[0]
        return block if isinstance(block, list) else [block] * repeat


def fake(direct, winograd4, winograd2, winograd6=9.0):
    times = (direct, winograd6, winograd4, winograd2)
    lists = [t if isinstance(t, list) else [t] for t in times]
    return FakeTimer(**dict(zip(EQUAL, lists, strict=True)))


def choose(timer, req=None, cache=None, **options) -> Choice:
    return Measured(timer, cache or ChoiceCache(None), **options)(req or request(), ISA)


@pytest.fixture(autouse=True)
def _all_are_worth_timing(monkeypatch):
    monkeypatch.setattr("activsparse.engine.measure._HOPELESS", math.inf)


def test_the_fastest_is_taken():
    for best in EQUAL:
        times = EQUAL | {best: 0.5}
        choice = choose(fake(**times))
        assert choice.algorithm == best
        assert dict(choice.candidates) == times


def test_ties_go_to_the_estimate():
    favourite = by_cost(request(), ISA).algorithm
    assert choose(fake(**EQUAL | {favourite: 1.02})).algorithm == favourite
    assert choose(fake(**EQUAL | {favourite: 1.04})).algorithm != favourite


def test_ties_are_wider_where_times_are_noisy():
    favourite = by_cost(request(), ISA).algorithm
    other = next(name for name in EQUAL if name != favourite)
    noisy = {name: [5.0] for name in EQUAL} | {favourite: [1.06, 1.2, 1.15], other: [1.1, 1.0, 1.2]}
    assert choose(FakeTimer(**noisy)).algorithm == favourite
    # The noise of one is none of the other's: steady times are believed.
    noisy[favourite] = [1.06]
    assert choose(FakeTimer(**noisy)).algorithm == other
    # No noise is so large that it hides a tenth.
    noisy |= {favourite: [1.2, 1.8, 2.0], other: [1.0, 1.5, 1.6]}
    assert choose(FakeTimer(**noisy)).algorithm == other


def test_a_disturbed_block_does_not_decide():
    # Two of three runs were disturbed: the best algorithm looks beaten, and is not dropped.
    assert choose(fake([[0.5, 9.0, 9.0], 0.5, 0.5], 1.0, 1.0)).algorithm == "direct"


def test_a_single_lucky_run_does_not_decide():
    assert choose(fake([[0.1, 2.0, 2.0]], 1.0, 3.0)).algorithm == "winograd4"


def test_beaten_algorithms_are_not_timed_again():
    timer = fake(3.0, 1.0, 1.1)
    choose(timer)
    blocks = {name: sum(name == timed for timed, _ in timer.calls) for name in EQUAL}
    assert blocks == {"direct": 1, "winograd6": 1, "winograd4": 3, "winograd2": 3}
    alone = fake(1.0, 3.0, 3.0)
    choose(alone)
    assert len(alone.calls) == len(EQUAL)


def test_long_runs_are_not_repeated():
    timer = fake(40.0, 30.0, 30.0)
    choose(timer)
    assert len(timer.calls) == len(EQUAL)  # each once


def test_without_time_left_estimates_choose_and_nothing_is_kept():
    timer, cache = fake(1.0, 2.0, 3.0), ChoiceCache(None)
    assert choose(timer, cache=cache, seconds=0.0) == by_cost(request(), ISA)
    assert not timer.calls
    choose(timer, cache=cache, seconds=1.0)
    assert timer.calls


def test_layers_that_no_time_was_left_for_are_told_of_once(monkeypatch, tmp_path, caplog):
    monkeypatch.setenv("ACTIVSPARSE_CACHE", str(tmp_path))
    monkeypatch.setattr("activsparse.engine.measure._AUTO_SECONDS", 0.0)
    with (
        caplog.at_level(logging.INFO, "activsparse.engine.measure"),
        choosing(None, "auto", True, ISA, 1) as chooser,
    ):
        for channels in (16, 24, 32):
            chooser(request(channels), ISA)
    (line,) = caplog.messages
    assert line.startswith("3 layers are estimated")


def test_hopeless_algorithms_are_not_packed(monkeypatch):
    monkeypatch.setattr("activsparse.engine.measure._HOPELESS", 1.0)
    favourite = by_cost(request(), ISA).algorithm
    timer = fake(1.0, 1.0, 1.0)
    choice = choose(timer)
    assert [name for name, _ in timer.calls] == [favourite]
    assert {name for name, ms in choice.candidates if ms is None} == (EQUAL.keys() - {favourite})


def test_winograd_can_be_left_out():
    timer = fake(9.0, 1.0, 1.0)
    assert choose(timer, winograd=False).algorithm == "direct"
    assert choose(timer, request(size=6), winograd=False).algorithm == "direct"
    assert not any("winograd" in name for name, _ in timer.calls)
    assert by_cost(request(), ISA, winograd=False).algorithm == "direct"


DILATED = {"dilation_h": 2, "pad_top": 2, "pad_bottom": 2}


@pytest.mark.parametrize("options", [{}, {"group": 16}, {"kernel": 1}, DILATED])
@pytest.mark.parametrize("masked", [False, True])
def test_everything_able_is_a_candidate(options, masked):
    mask = np.random.default_rng(1).random((12, 12)) > 0.3
    req = request(mask=mask.astype(np.uint8) if masked else None, **options)
    names = able(req, ISA)
    choice = choose(FakeTimer(**{name: [1.0] for name in names}), req)
    assert [name for name, _ in choice.candidates] == names
    assert "reference" not in names


@pytest.mark.parametrize("options", [{}, {"group": 16}, {"kernel": 1}, DILATED])
def test_a_mask_takes_no_algorithm_away(options):
    mask = np.random.default_rng(3).random((12, 12)) > 0.3
    masked = able(request(mask=mask.astype(np.uint8), **options), ISA)
    assert set(able(request(**options), ISA)) <= set(masked)


def test_weights_are_as_cold_as_in_the_network():
    def evicted(network_bytes):
        timer = fake(1.0, 1.0, 1.0)
        choose(timer, request(network_bytes=network_bytes))
        return timer.calls[0][1]

    own = request().node.arrays["weight"].nbytes
    assert evicted(0) == evicted(own) == 0
    assert evicted(own + 1000) == 1024
    assert own < evicted(1 << 40) <= 1 << 26


# The cache ----------------------------------------------------------------------------------------


def test_a_choice_is_measured_once(tmp_path):
    file = tmp_path / "new" / "cache.json"
    timer, cache = fake(1.0, 2.0, 3.0), ChoiceCache(file)
    first = choose(timer, cache=cache)
    calls = len(timer.calls)
    assert choose(timer, cache=cache) == first
    cache.save()
    assert choose(timer, cache=ChoiceCache(file)) == first
    assert len(timer.calls) == calls


def test_another_operator_is_another_choice():
    timer, cache = fake(1.0, 2.0, 3.0), ChoiceCache(None)
    rng = np.random.default_rng(2)
    mask = (rng.random((12, 12)) > 0.3).astype(np.uint8)
    for req in (
        request(),
        request(channels=32),
        request(size=13),
        request(mask=mask),
        request(mask=1 - mask),
        request(network_bytes=1 << 20),
        request(activation="relu"),
    ):
        calls = len(timer.calls)
        choose(timer, req, cache)
        assert len(timer.calls) > calls
    calls = len(timer.calls)
    choose(timer, request(network_bytes=(1 << 20) - 1), cache)  # nearly the same
    assert len(timer.calls) == calls


DAMAGED = {
    "empty": b"",
    "binary": b"\xff\xfe\x00",
    "no JSON": b"{",
    "another JSON": b"[1, 2]",
    "no entries": b'{"choices": 3}',
    "odd entry": b'{"choices": {"k": 1}}',
    "negative": b'{"choices": {"k": {"algorithm": "direct", "ms": {"direct": -1}}}}',
    "text for time": b'{"choices": {"k": {"algorithm": "direct", "ms": {"direct": "1"}}}}',
    "list for name": b'{"choices": {"k": {"algorithm": [], "ms": {"direct": 1}}}}',
    "not measured": b'{"choices": {"k": {"algorithm": "direct", "ms": {"direct": null}}}}',
    "too deep": b"[" * 100_000,
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED.keys())
def test_a_damaged_file_is_ignored_and_replaced(tmp_path, caplog, content):
    file = tmp_path / "cache.json"
    file.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        cache = ChoiceCache(file)
    assert str(file) in caplog.text
    assert cache.get("k") is None
    cache.put("k", Choice("direct", (("direct", 1.0), ("winograd4", None))))
    cache.save()
    assert ChoiceCache(file).get("k") == cache.get("k")


def test_a_folder_that_cannot_be_written_costs_only_time(tmp_path, caplog):
    (tmp_path / "file").write_text("")  # even the superuser cannot make a folder of it
    cache = ChoiceCache(tmp_path / "file" / "cache.json")
    choice = choose(fake(1.0, 2.0, 3.0), cache=cache)
    with caplog.at_level(logging.WARNING):
        cache.save()
    assert "ACTIVSPARSE_CACHE" in caplog.text
    assert choose(fake(9.0, 9.0, 1.0), cache=cache) == choice


def test_choices_of_others_are_kept(tmp_path):
    file = tmp_path / "cache.json"
    one, two = ChoiceCache(file), ChoiceCache(file)
    choice = Choice("direct", (("direct", 1.0),))
    one.put("a", choice)
    two.put("b", choice)
    one.save()
    two.save()
    assert ChoiceCache(file).get("a") == ChoiceCache(file).get("b") == choice


WRITER = """
import sys
import weakref
from pathlib import Path
from activsparse.engine.choice_cache import ChoiceCache
from activsparse.engine.choose import Choice
for i in range(100):
    cache = ChoiceCache(Path(sys.argv[1]))
    cache.put(f"{sys.argv[2]}{i}", Choice("direct", (("direct", 1.0),)))
    cache.save()
"""


def test_two_processes_write_one_file(tmp_path):
    file = tmp_path / "cache.json"
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, file, name], stderr=subprocess.PIPE, text=True
        )
        for name in ("a", "b")
    ]
    for writer in writers:
        assert writer.communicate(timeout=60)[1] == ""  # no file was ever found damaged
        assert writer.returncode == 0
    choices = json.loads(file.read_text())["choices"]
    assert {"a99", "b99"} & set(choices)
    assert [path.name for path in tmp_path.iterdir()] == ["cache.json"]


def test_the_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("ACTIVSPARSE_CACHE", "OFF")
    assert cache_folder() is None
    monkeypatch.setenv("ACTIVSPARSE_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("ACTIVSPARSE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "activsparse"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    assert cache_folder() == tmp_path / ".cache" / "activsparse"


# Sessions -----------------------------------------------------------------------------------------


@pytest.fixture
def model(tmp_path):
    b = graphs.Builder()
    x = b.conv(b.input(1, 3, 16, 16), 16)
    return b.save(tmp_path / "m.onnx", b.conv(b.mask(b.conv(x, 16)), 16))


def test_a_tuned_session(model, tmp_path, monkeypatch):
    x = np.random.default_rng(0).standard_normal((1, 3, 16, 16), np.float32)
    monkeypatch.setenv("ACTIVSPARSE_CACHE", str(tmp_path / "cache"))
    first = Session(model, threads=1)
    (file,) = (tmp_path / "cache").iterdir()
    assert ISA in file.name
    rows = [row for row in first.explain() if len(row.candidates) > 1]
    assert len(rows) == 2
    for row in rows:
        assert dict(row.candidates)[row.algorithm] > 0
    # What is known is not measured again: the same file, the same times, the same bits.
    before = file.read_bytes()
    again = Session(model, threads=1)
    assert file.read_bytes() == before
    assert again.explain() == first.explain()
    np.testing.assert_array_equal(again.run(x), first.run(x))
    # Other threads, another file.
    Session(model, threads=2)
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_nothing_is_measured_without_a_cache_unless_asked(model):
    def measured(**options):
        rows = Session(model, **options).explain()
        return any(ms is not None for row in rows for _, ms in row.candidates)

    assert not measured()
    assert not measured(tune=False)
    assert measured(tune=True)


@pytest.mark.parametrize("tune", [True, False])
def test_a_session_without_winograd(model, tune):
    rows = Session(model, winograd=False, tune=tune).explain()
    names = {name for row in rows for name, _ in row.candidates} | {r.algorithm for r in rows}
    assert not any("winograd" in name for name in names)


def test_impossible_options(model):
    with pytest.raises(ActivsparseError, match="drop one"):
        Session(model, algorithm="winograd4", winograd=False)
    with (
        pytest.raises(ActivsparseError, match="tune='always'"),
        choosing(None, "always", True, ISA, 1),
    ):
        pass


@pytest.mark.parametrize("tune", [1, 0, 1.0, None, "Auto", ""])
def test_numbers_and_other_words_are_no_answers(model, tune):
    with pytest.raises(ActivsparseError, match="choose True, False or 'auto'"):
        Session(model, tune=tune)


def test_an_error_does_not_cost_what_was_measured(tmp_path, monkeypatch):
    monkeypatch.setenv("ACTIVSPARSE_CACHE", str(tmp_path / "cache"))

    def interrupted(choose):
        choose(request(), ISA)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), choosing(None, True, True, ISA, 1) as choose:
        interrupted(choose)
    (file,) = (tmp_path / "cache").iterdir()
    assert json.loads(file.read_text())["choices"]


def test_files_of_builds_that_are_gone_are_removed(tmp_path):
    old, recent, other = (
        tmp_path / name for name in ("choices-a.json", "choices-b.json", "x.json")
    )
    for file in (old, recent, other):
        file.write_text("{}")
    for file in (old, other):
        os.utime(file, (0, 0))
    cache = ChoiceCache(tmp_path / "choices-now.json")
    cache.put("k", Choice("direct", (("direct", 1.0),)))
    cache.save()
    assert {file.name for file in tmp_path.iterdir()} == {
        "choices-b.json",
        "choices-now.json",
        "x.json",
    }

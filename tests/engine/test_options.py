"""Options of the wrong type or range: one line that names the option, whatever it is given."""

import numpy as np
import pytest

from activsparse import ActivsparseError, Session
from activsparse.engine.compile import compile_file
from activsparse.engine.load import load

NO_WHOLE_NUMBERS = (0, -1, 2**31, 2**70, 1.5, float("nan"), "2", True, [], np.arange(3), object())
NO_NAMES = (3, b"avx2", ["avx2"], object(), np.arange(3), True)

WRONG = {
    "threads": NO_WHOLE_NUMBERS,
    "isa": (*NO_NAMES, "mmx", "\x1b[2J", "a" * 9999),
    "algorithm": (*NO_NAMES, "magic", "a\nb", "a" * 9999),
    "tune": ("often", 1, 0, 2.0, None, [], np.arange(3), object()),
    "winograd": ("yes", 1, 0, None, [], np.arange(3)),
    "fallback": ("openvino", 1, b"onnxruntime", [], np.arange(3), object()),
    "input_shapes": (
        *(5, "x", b"x", [1], [("x", (1, 3, 8, 8))], object(), np.arange(3)),
        *({"x": 5}, {"x": None}, {"x": "1388"}, {"x": (1, 3, 8, 8.0)}, {"x": (1, 3, 8, True)}),
        *({"x": (1, 3, 8, -8)}, {"x": (1, 3, 8, 0)}, {"x": (1, 3, 8, 2**70)}, {"x": ()}),
        *({5: (1, 3, 8, 8)}, {"": (1, 3, 8, 8)}, {"x": np.zeros((2, 2))}, {None: None}),
    ),
}
CASES = [(option, value) for option, values in WRONG.items() for value in values]


def refused(action, *words: str) -> None:
    with pytest.raises(ActivsparseError) as caught:
        action()
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert message.isprintable()
    assert len(message) < 2100
    for word in words:
        assert word in message


@pytest.mark.parametrize(("option", "value"), CASES)
def test_sessions_and_compile_refuse(dense, tmp_path, option, value):
    # An option of one name says so; a wrong shape is also told as the input's.
    words = (option,) if option not in ("isa", "input_shapes") else ()
    refused(lambda: Session(dense, **{option: value}), *words)
    if option not in ("isa", "fallback"):
        refused(lambda: compile_file(dense, tmp_path / "plan", **{option: value}), *words)
    if option == "input_shapes":
        refused(lambda: load(dense, value))


def test_plans_refuse_too(dense, tmp_path):
    Session(dense).save(tmp_path / "plan")
    for option, value in CASES:
        refused(lambda option=option, value=value: Session(tmp_path / "plan", **{option: value}))


@pytest.mark.parametrize(
    "options",
    [
        {"threads": np.int64(2)},
        {"tune": np.False_, "winograd": np.True_},
        {"input_shapes": {"x": [np.int32(1), 3, 8, 8]}},
        {"input_shapes": {"x": np.array([1, 3, 8, 8])}},
        {"input_shapes": {}},
    ],
    ids=str,
)
def test_numpy_s_numbers_are_numbers(dense, options):
    Session(dense, **options)


@pytest.mark.parametrize("repeat", NO_WHOLE_NUMBERS)
def test_profile_refuses(dense, repeat):
    refused(lambda: Session(dense).profile(repeat), "repeat")


@pytest.mark.parametrize(
    "x",
    [
        *(None, "x", b"x", 5, [], [[1], [1, 2]], object(), {}, {5: 1, "x": 2}, {None: 0}, {"x"}),
        *(
            np.zeros((1, 3, 8, 8), dtype)
            for dtype in (">f4", "f2", "f8", "i4", "c8", "?", "O", "U1")
        ),
        *({"x": value} for value in (None, "x", [[1], [1, 2]], object(), np.float32(1))),
    ],
)
def test_run_refuses_what_is_no_input(dense, x):
    refused(lambda: Session(dense).run(x), "dense.onnx")


@pytest.mark.parametrize(
    "x",
    [
        np.zeros((1, 8, 8, 3), np.float32).transpose(0, 3, 1, 2),
        np.ma.zeros((1, 3, 8, 8), np.float32),
        np.zeros((1, 3, 8, 16), np.float32)[..., ::-2],
    ],
    ids=["channels last", "masked array", "reversed"],
)
def test_run_takes_arrays_of_any_layout(dense, x):
    assert Session(dense).run(x).shape == (1, 4, 8, 8)

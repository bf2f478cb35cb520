"""Whether an exported ONNX file computes what the torch model computes."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from activsparse.errors import ActivsparseError, Option

__all__ = ["Check", "compare", "compare_with"]

_EPSILON = float(np.finfo(np.float32).eps)


@dataclass(frozen=True)
class Check:
    """Largest absolute error of ONNX Runtime against torch in double precision, and its bound."""

    error: float
    bound: float

    @property
    def passed(self) -> bool:
        """Whether the error is within the bound; not-a-number is not."""
        return self.error <= self.bound


def compare(
    model: nn.Module, exported: onnx.ModelProto, inputs: Sequence[Any], runs: int = 3
) -> Check:
    """Run torch and ONNX Runtime on the example and on random images of its size.

    See `compare_with`; `exported` is the ONNX model.

    Raises:
        ActivsparseError: ONNX Runtime refuses the model, or the network does not run in double.
    """
    session = _session(exported)
    names = [value.name for value in session.get_inputs()]

    def run(tensors: Sequence[Tensor]) -> list[Any]:
        feed = {name: x.numpy() for name, x in zip(names, tensors, strict=True)}
        outputs: list[Any] = session.run(None, feed)
        return outputs

    return compare_with(model, run, inputs, runs)


@torch.no_grad()
def compare_with(
    model: nn.Module,
    run_exported: Callable[[Sequence[Tensor]], Sequence[Any]],
    inputs: Sequence[Any],
    runs: int = 3,
) -> Check:
    """Run torch and another engine on the example and on random images of its size.

    Both are float32 with sums in different orders, so both err. torch's own error against the same
    network in double precision tells how much this network amplifies rounding. The other may err

        bound = 32 max|torch32 - torch64| + 64 eps max|torch64|,

    eps = 2^-23, maxima over all outputs and runs. A mask that is wrong or missing changes outputs
    by far more.

    Args:
        model: in evaluation mode, on the CPU.
        run_exported: runs the exported model on the tensors among the arguments.
        inputs: the model's arguments; float tensors are replaced by random ones after the first
            run.
        runs: how many inputs to compare on.

    Raises:
        ActivsparseError: the network does not run in double precision.
    """
    generator = torch.Generator().manual_seed(0)
    error = own_error = scale = 0.0
    precise = copy.deepcopy(model).double()
    for run in range(runs):
        arguments = inputs if run == 0 else [_random_like(x, generator) for x in inputs]
        single = _arrays(model(*arguments))
        double = _arrays(_in_double(precise, arguments))
        tensors = [x for x in pytree.tree_leaves(tuple(arguments)) if isinstance(x, Tensor)]
        for got, approximate, exact in zip(run_exported(tensors), single, double, strict=True):
            # Not `max`, which drops not-a-number.
            error = float(np.maximum(error, np.abs(got - exact).max(initial=0.0)))
            own_error = max(own_error, float(np.abs(approximate - exact).max(initial=0.0)))
            scale = max(scale, float(np.abs(exact).max(initial=0.0)))
    return Check(error, 32 * own_error + 64 * _EPSILON * scale)


def _session(exported: onnx.ModelProto) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what it refuses is told below
    try:
        return onnxruntime.InferenceSession(
            exported.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:
        cause = str(error).strip().splitlines()[0]
        foreign = {onnx.TensorProto.DOUBLE, onnx.TensorProto.BFLOAT16}
        if foreign & {tensor.data_type for tensor in exported.graph.initializer}:
            raise ActivsparseError(
                f"ONNX Runtime refuses the exported model ({cause}); make network and ",
                Option("example_input"),
                " float32 with .float(), and use no autocast",
            ) from error
        raise ActivsparseError(
            f"ONNX Runtime refuses the exported model ({cause}); try another ", Option("opset")
        ) from error


def _in_double(model: nn.Module, arguments: Sequence[Any]) -> Any:
    wide = pytree.tree_map(
        lambda x: x.double() if isinstance(x, Tensor) and x.is_floating_point() else x,
        tuple(arguments),
    )
    try:
        return model(*wide)
    except RuntimeError as error:
        raise ActivsparseError(
            "the export cannot be checked: the network does not run in double precision "
            f"({str(error).splitlines()[0]}); use ",
            Option("verify", False),
        ) from error


def _random_like(argument: Any, generator: torch.Generator) -> Any:
    if isinstance(argument, Tensor) and argument.is_floating_point():
        return torch.randn(argument.shape, generator=generator, dtype=argument.dtype)
    return argument


def _arrays(outputs: Any) -> list[npt.NDArray[np.float64]]:
    leaves = pytree.tree_leaves(outputs)
    return [leaf.numpy().astype(np.float64) for leaf in leaves if isinstance(leaf, Tensor)]

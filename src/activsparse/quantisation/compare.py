"""A quantised network beside the float one, on the same samples."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx

from activsparse.errors import ActivsparseError
from activsparse.quantisation.calibrate import Feed

__all__ = ["Difference", "Outputs", "OwnRunner", "Runner", "compare"]

Array = npt.NDArray[np.float64]
Outputs = list[dict[str, Array]]


class Runner:
    """ONNX Runtime on a model in memory.

    Raises:
        ActivsparseError: it cannot run it.
    """

    def __init__(self, model: onnx.ModelProto, threads: int, name: str) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 4
        # Without VNNI, products of 8 bits as they are, not saturated.
        options.add_session_config_entry("session.x64quantprecision", "1")
        self._name = name
        try:
            self._session = onnxruntime.InferenceSession(
                model.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # ONNX Runtime's exception types share no narrower base
            cause = str(error).splitlines()[0]
            raise ActivsparseError(f"{name}: ONNX Runtime cannot run it: {cause}") from error
        self._outputs = [value.name for value in self._session.get_outputs()]

    def run(
        self, feeds: Sequence[Feed], advance: Callable[[int], None] = lambda done: None
    ) -> Outputs:
        """The outputs for each sample.

        Raises:
            ActivsparseError: ONNX Runtime fails.
        """
        results = []
        for done, feed in enumerate(feeds, 1):
            try:
                found = self._session.run(self._outputs, dict(feed))
            except Exception as error:  # see above
                cause = str(error).splitlines()[0]
                raise ActivsparseError(f"{self._name}: ONNX Runtime fails: {cause}") from error
            results.append(
                {n: y.astype(np.float64) for n, y in zip(self._outputs, found, strict=True)}
            )
            advance(done)
        return results


class OwnRunner:
    """This engine on a model in memory.

    Args:
        model: the model.
        feed: a sample, whose sizes it is compiled for.
        threads: of the engine.
        fallback: as of `Session`.

    Raises:
        ActivsparseError: it does not run this model.
    """

    def __init__(
        self, model: onnx.ModelProto, feed: Feed, threads: int, fallback: str | None = None
    ) -> None:
        from activsparse.engine.session import Session

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            onnx.save(model, path)
            shapes = {name: tuple(x.shape) for name, x in feed.items()}
            # Estimates do: what is chosen changes no result of whole numbers.
            self._session = Session(
                path, threads=threads, input_shapes=shapes, tune=False, fallback=fallback
            )
        self._outputs = [name for name, _ in self._session.outputs]

    def run(
        self, feeds: Sequence[Feed], advance: Callable[[int], None] = lambda done: None
    ) -> Outputs:
        """The outputs for each sample."""
        results = []
        for done, feed in enumerate(feeds, 1):
            found = self._session.run(None, dict(feed))
            results.append(
                {n: y.astype(np.float64) for n, y in zip(self._outputs, found, strict=True)}
            )
            advance(done)
        return results


@dataclass(frozen=True)
class Difference:
    """What quantising does to a network's results.

    Attributes:
        snr_db: by output: energy of the float result over that of the difference, in decibels;
            infinite where there is none.
        agreement: share of samples for which both say the same class; None of a network that says
            none.
        accuracy: of the float network and of the quantised one, where there are labels.
    """

    snr_db: dict[str, float]
    agreement: float | None
    accuracy: tuple[float, float] | None

    @property
    def lost(self) -> float | None:
        """What is lost, in points of accuracy, else of agreement."""
        if self.accuracy is not None:
            return 100 * (self.accuracy[0] - self.accuracy[1])
        return None if self.agreement is None else 100 * (1 - self.agreement)


def compare(
    reference: Outputs, quantised: Outputs, labels: npt.NDArray[np.int64] | None = None
) -> Difference:
    """Set the outputs of two networks against each other.

    Args:
        reference: of the float one, sample by sample.
        quantised: alike.
        labels: of the samples.

    Raises:
        ActivsparseError: a label is none of the network's classes.
    """
    snr = {}
    for name in reference[0]:
        signal = sum(float(np.square(one[name]).sum()) for one in reference)
        noise = sum(
            float(np.square(one[name] - other[name]).sum())
            for one, other in zip(reference, quantised, strict=True)
        )
        snr[name] = 10 * math.log10(signal / noise) if noise and signal else math.inf * (not noise)
    scores = next((n for n, y in reference[0].items() if y.ndim == 2 and y.shape[1] > 1), None)
    if scores is None:
        return Difference(snr, None, None)
    one, other = (
        np.concatenate([sample[scores].argmax(1) for sample in outputs])
        for outputs in (reference, quantised)
    )
    accuracy = None
    if labels is not None and len(labels) == len(one):
        classes = reference[0][scores].shape[1]
        wrong = labels[(labels < 0) | (labels >= classes)]
        if wrong.size:
            raise ActivsparseError(
                f"labels: {wrong[0]} is none of the network's {classes} classes, 0 to "
                f"{classes - 1}; mend them, or leave them out"
            )
        accuracy = float(np.mean(one == labels)), float(np.mean(other == labels))
    return Difference(snr, float(np.mean(one == other)), accuracy)

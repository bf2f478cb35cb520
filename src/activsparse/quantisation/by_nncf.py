"""Another quantiser: OpenVINO's NNCF, which also corrects biases."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import onnx

from activsparse.errors import ActivsparseError
from activsparse.export.insert import find_masks
from activsparse.quantisation.calibrate import Feed
from activsparse.quantisation.prepare import quiet

__all__ = ["quantised_by_nncf"]


def quantised_by_nncf(
    model: onnx.ModelProto, feeds: Sequence[Feed], leave: Collection[str], name: str
) -> onnx.ModelProto:
    """Return the quantised network; its masks stay in it, in float, behind their convolutions.

    Args:
        model: as `prepare.prepared` gives it, masks and all; not changed.
        feeds: samples to calibrate with.
        leave: names of nodes to leave in float.
        name: of the model's file, for messages.

    Raises:
        ActivsparseError: NNCF cannot quantise it.
        ModuleNotFoundError: NNCF is not installed.
    """
    with quiet():
        import nncf

    masks = [node.name for mask in find_masks(model.graph) for node in mask.nodes]
    ignored = sorted({*leave, *masks})
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    with quiet():
        try:
            result: onnx.ModelProto = nncf.quantize(
                copy,
                nncf.Dataset([dict(feed) for feed in feeds]),
                preset=nncf.QuantizationPreset.MIXED,
                target_device=nncf.TargetDevice.CPU,
                subset_size=len(feeds),
                ignored_scope=nncf.IgnoredScope(names=ignored) if ignored else None,
            )
        except Exception as error:  # its exception types share no narrower base
            cause = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ActivsparseError(
                f"{name}: NNCF cannot quantise it ({cause}); take ONNX Runtime's quantiser"
            ) from error
    return result

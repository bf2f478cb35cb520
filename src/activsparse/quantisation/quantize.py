"""The whole way: ranges, the quantised network, what it costs, which layers stay in float."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Collection
from dataclasses import dataclass

import onnx

from activsparse.errors import ActivsparseError, Option
from activsparse.quantisation.by_nncf import quantised_by_nncf
from activsparse.quantisation.calibrate import Ranges, find_ranges, quantised_model
from activsparse.quantisation.compare import Difference, Outputs, OwnRunner, Runner, compare
from activsparse.quantisation.layers import LayerCost, fewest_in_float
from activsparse.quantisation.lifted_masks import take_masks_out
from activsparse.quantisation.options import QuantizeOptions
from activsparse.quantisation.prepare import layer_names, prepared
from activsparse.quantisation.samples import Samples

__all__ = ["Quantised", "quantise"]

Advance = Callable[[str, int, int], None]
"""Told what is being done, how much of it is, and of how much."""

# Samples on which each layer is quantised alone.
_FEW = 8


@dataclass(frozen=True)
class Quantised:
    """A quantised network, and what is known of it.

    Attributes:
        model: in QDQ form: uint8 values, int8 weights.
        difference: from the float network, on the held-out samples.
        costs: what each layer costs alone, worst first; empty where it was not measured.
        in_float: names of the layers that are left in float.
        layers: how many there are.
        masks: how many masks it holds.
        told: what the samples are.
        engine: that ran the quantised network: `activsparse`, or `onnxruntime` where this engine
            does not take it.
    """

    model: onnx.ModelProto
    difference: Difference
    costs: list[LayerCost]
    in_float: list[str]
    layers: int
    masks: int
    told: str
    engine: str

    def __repr__(self) -> str:
        """What it is and what it loses, not its weights."""
        lost = [f"{name} {snr:.1f} dB" for name, snr in self.difference.snr_db.items()]
        if self.difference.agreement is not None:
            lost.append(f"top-1 agreement {self.difference.agreement:.2%}")
        if self.difference.accuracy is not None:
            before, after = self.difference.accuracy
            lost.append(f"accuracy {after:.2%}, of the float one {before:.2%}")
        lines = [
            f"Quantised({self.layers - len(self.in_float)} of {self.layers} layers, "
            f"{self.masks} masks, by {self.engine}: {', '.join(lost)})"
        ]
        lines += [f"  {cost.snr_db:.1f} dB with {cost.name} alone" for cost in self.costs[:5]]
        return "\n".join(lines)


def quantise(
    model: onnx.ModelProto,
    samples: Samples,
    options: QuantizeOptions | None = None,
    *,
    name: str = "model",
    advance: Advance = lambda what, done, total: None,
) -> Quantised:
    """Quantise a float32 network, masked or not.

    Args:
        model: the network; not changed.
        samples: to calibrate with and to compare on.
        options: see there.
        name: of its file, for messages.
        advance: told of progress.

    Raises:
        ActivsparseError: the model is quantised already, or cannot be; no layer is of a name in
            `keep_float`; samples that do not fit.
    """
    options = options or QuantizeOptions()
    reference = prepared(model, name)
    dense = onnx.ModelProto()
    dense.CopyFrom(reference)
    masks, left = take_masks_out(dense)
    dense = onnx.shape_inference.infer_shapes(dense)
    names = layer_names(dense.graph)
    kept = _kept(names, options.keep_float, name)
    if not samples.calibration or not samples.held_out:
        raise ActivsparseError(f"{name}: too few samples for the model's batch; give more")
    by_nncf = options.quantiser == "nncf"
    alone_too = options.per_layer or options.accuracy_drop is not None
    ranges: Ranges = None
    if alone_too or not by_nncf:
        ranges = find_ranges(
            reference,
            samples.calibration,
            options,
            name,
            lambda done, total: advance("calibrating", done, total),
        )
    truth = _outputs(reference, samples, options, name, "float32", advance)

    def made(more: Collection[str]) -> onnx.ModelProto:
        leave = [*kept, *more]
        if by_nncf:
            return quantised_by_nncf(reference, samples.calibration, leave, name)
        return quantised_model(dense, masks, ranges, options, leave=[*leave, *left])

    def difference(one: onnx.ModelProto) -> Difference:
        return compare(
            truth,
            _outputs(one, samples, options, name, "int8", advance),
            samples.labels,
        )

    costs: list[LayerCost] = []
    if alone_too:
        few = min(_FEW, len(samples.held_out))
        rest = {node: layer for node, layer in names.items() if node not in kept}
        for done, (node, layer) in enumerate(rest.items(), 1):
            alone = quantised_model(dense, masks, ranges, options, only=[node], leave=left)
            outputs = Runner(alone, options.threads, name).run(samples.held_out[:few])
            snr = min(compare(truth[:few], outputs).snr_db.values())
            costs.append(LayerCost(layer, node, snr))
            advance("each layer alone", done, len(rest))
        costs.sort(key=lambda cost: cost.snr_db)
    more: list[str] = []
    if options.accuracy_drop is not None:
        if compare(truth[:1], truth[:1]).lost is None:
            raise ActivsparseError(
                f"{name}: names no classes (no output of shape (N, classes)), so there is no "
                "accuracy; leave ",
                Option("accuracy_drop"),
                " out and choose layers by ",
                Option("keep_float"),
            )
        chosen, _ = fewest_in_float(
            costs, lambda nodes: difference(made(nodes)).lost or 0.0, options.accuracy_drop
        )
        more = [cost.node for cost in chosen]
    result = made(more)
    _settle(result, model)
    outputs, engine = _by_this_engine(result, samples, options, name, advance)
    return Quantised(
        result,
        compare(truth, outputs, samples.labels),
        costs,
        [names[node] for node in names if node in kept or node in more],
        len(names),
        len(masks) + len(left),
        samples.told,
        engine,
    )


def _outputs(
    model: onnx.ModelProto,
    samples: Samples,
    options: QuantizeOptions,
    name: str,
    what: str,
    advance: Advance,
) -> Outputs:
    total = len(samples.held_out)
    return Runner(model, options.threads, name).run(
        samples.held_out, lambda done: advance(f"comparing, {what}", done, total)
    )


def _by_this_engine(
    model: onnx.ModelProto,
    samples: Samples,
    options: QuantizeOptions,
    name: str,
    advance: Advance,
) -> tuple[Outputs, str]:
    """The quantised network's outputs, and the engine that gave them."""
    total = len(samples.held_out)
    try:
        runner = OwnRunner(model, samples.held_out[0], options.threads, options.fallback)
    except ActivsparseError:
        return _outputs(model, samples, options, name, "int8", advance), "onnxruntime"
    what = "comparing, int8, this engine"
    return runner.run(samples.held_out, lambda done: advance(what, done, total)), "activsparse"


def _settle(result: onnx.ModelProto, model: onnx.ModelProto) -> None:
    """Keep what the original says of itself, and only the operator sets that are in use."""
    used = {node.domain for node in result.graph.node}
    versions = [entry for entry in result.opset_import if entry.domain in used]
    del result.opset_import[:]
    result.opset_import.extend(versions)
    del result.metadata_props[:]
    result.metadata_props.extend(model.metadata_props)
    result.producer_name = "activsparse"


def _kept(names: dict[str, str], globs: tuple[str, ...], file: str) -> set[str]:
    """The nodes of the layers that globs name.

    Raises:
        ActivsparseError: one of them names none.
    """
    kept: set[str] = set()
    for glob in globs:
        found = {
            node
            for node, layer in names.items()
            if fnmatch.fnmatchcase(layer, glob) or fnmatch.fnmatchcase(node, glob)
        }
        if not found:
            some = ", ".join([*names.values()][:5])
            raise ActivsparseError(
                f"{file}: no layer is called ",
                Option("keep_float", glob),
                f"; its layers are {some}{', ...' if len(names) > 5 else ''}",
            )
        kept |= found
    if len(kept) == len(names):
        raise ActivsparseError(
            f"{file}: ", Option("keep_float"), " keeps all layers in float; name fewer"
        )
    return kept

"""Rewrites of the graph, one per module, each pure from Graph to Graph; `optimise` orders them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from activsparse.engine.graph import Graph
from activsparse.engine.passes.clean import clean
from activsparse.engine.passes.convert import convert
from activsparse.engine.passes.crop_kernels import crop_kernels
from activsparse.engine.passes.drop_fills import drop_fills
from activsparse.engine.passes.fold_affine import fold_affine
from activsparse.engine.passes.fold_forward import fold_forward
from activsparse.engine.passes.fold_pad import fold_pad
from activsparse.engine.passes.fold_scale import fold_scale
from activsparse.engine.passes.frame_pads import frame_pads
from activsparse.engine.passes.fuse_activation import fuse_activation
from activsparse.engine.passes.fuse_inverted_residual import fuse_inverted_residual
from activsparse.engine.passes.fuse_mask import fuse_mask
from activsparse.engine.passes.fuse_residual import fuse_residual
from activsparse.engine.passes.infer import infer
from activsparse.engine.passes.join_branches import join_branches
from activsparse.engine.passes.join_slices import join_slices
from activsparse.engine.passes.join_stem_pool import join_stem_pool
from activsparse.engine.passes.lift_phases import lift_phases
from activsparse.engine.passes.match_activation import match_activation
from activsparse.engine.passes.match_fill import match_fill
from activsparse.engine.passes.match_norm import match_norm
from activsparse.engine.passes.match_response import match_response
from activsparse.engine.passes.merge_parallel import merge_parallel
from activsparse.engine.passes.quantised import (
    drop_pairs,
    expand_qoperators,
    fuse_quantised,
    match_quantised,
    settle_quantised,
)
from activsparse.engine.passes.repeat_channels import repeat_channels
from activsparse.engine.passes.resolve_reshapes import resolve_reshapes
from activsparse.engine.passes.zero_positions import zero_positions

__all__ = ["drop_fills", "fuse_inverted_residual", "join_branches", "join_stem_pool", "optimise"]


def optimise(graph: Graph) -> Graph:
    """Turn a loaded ONNX graph into the operators the engine runs."""
    for rewrite in (
        expand_qoperators,
        infer,
        match_fill,
        match_quantised,
        match_fill,  # of what are bytes now
        settle_quantised,
        drop_pairs,
        match_norm,
        match_response,
        clean,
        fuse_quantised,
        convert,
        match_activation,
        resolve_reshapes,
        join_slices,
        lift_phases,
    ):
        graph = rewrite(graph)
    # Norms reach a convolution only through its mask, and masks only after a norm: both until
    # neither finds more. Residuals and activations come after them, since nothing can be folded
    # into a convolution that has one.
    graph = _until_stable(graph, (fold_scale, fold_pad, fuse_mask, merge_parallel))
    graph = _until_stable(
        graph, (fuse_residual, fold_affine, fuse_activation, fold_scale, fold_pad, fuse_mask)
    )
    graph = fold_forward(graph)
    return clean(crop_kernels(zero_positions(frame_pads(repeat_channels(graph)))))


def _until_stable(graph: Graph, rewrites: Sequence[Callable[[Graph], Graph]]) -> Graph:
    while True:
        before = len(graph.nodes)
        for rewrite in rewrites:
            graph = rewrite(graph)
        if len(graph.nodes) == before:
            return graph

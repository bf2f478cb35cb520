"""A batch as parts that threads run each by itself: a few images, as many as share weights well.

Threads that share one image wait for each other after every operator; threads with images of their
own never do. So of a graph for a batch the compiler makes one for a part of it, which an executor
runs once for each part. The images of a part share their weights' way from memory, and their values
stay in the last-level cache from operator to operator.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from activsparse.engine.graph import Graph, Node, Shape

__all__ = ["divide_batch"]

# Images of a part at most, where values outweigh weights. On an Intel Xeon (Sapphire Rapids class,
# AVX-512, one thread, shared cores) ResNet18 takes 19.6, 14.3, 13.4 and 13.7 ms an image by 1, 2, 4
# and 8, ResNet50 55.7, 46.3, 43.3 and 45.7, MobileNetV2 5.4, 4.9, 5.0 and 4.8.
_MOST_IMAGES = 4

# What values of all threads' parts may take: a last-level cache as most machines have, or larger,
# since plans do not depend on the machine.
_CACHE_BYTES = 32 << 20

# A matrix by a vector runs at the pace of memory. Where a network has more of such weights, in
# bytes, than last-level caches keep, sharing these is worth more than keeping values near.
_MANY_WEIGHTS = 16 << 20

# What computes every image by itself, or every row of a matrix.
_BY_IMAGE = (
    *("activate", "average_pool", "concat", "conv", "copy", "dequantise", "flatten", "gemm"),
    *("gather_positions", "global_average_pool", "interleave", "lookup_u8", "mask_multiply"),
    *("max_pool", "normalize", "overwrite", "prelu", "quantise", "resize_linear", "resize_nearest"),
    *("resize_positions", "scale_shift", "softmax"),
    *("average_pool_u8", "conv_u8", "gather_u8", "max_pool_u8"),
)
_OF_TWO = ("add", "add_u8", "combine", "mul", "mul_u8")
_ALONG_AXIS = ("join", "slice", "softmax_axis", "top_k")


def divide_batch(graph: Graph, threads: int) -> tuple[Graph, int, int]:
    """Return the graph of one part of a batch, how many parts there are, and a part's images.

    The graph itself, 1 and 1 where there are fewer images than threads, or an operator may mix
    images.

    Args:
        graph: the optimised graph; it is not changed.
        threads: how many will run it.
    """
    batches = {(graph.shape(name) or (0,))[0] for name in graph.inputs}
    batch = batches.pop() if len(batches) == 1 else 0
    if batch < max(2, threads):
        return graph, 1, 1
    held = _values_by_image(graph, batch)
    if held is None:
        return graph, 1, 1
    images = _images_of_part(graph, batch, threads)
    part = graph.copy()
    for name in held:
        first, *rest = graph.shape(name)
        part.shapes[name] = (first // batch * images, *rest)
    return part, batch // images, images


def _images_of_part(graph: Graph, batch: int, threads: int) -> int:
    """As many as fit the cache, at best such that all threads have equally many parts."""
    matrices = [
        node.arrays["weight"].nbytes
        for node in graph.nodes
        if node.op in ("conv_u8", "gemm") and graph.shape(node.output)[:-1] == (batch,)
    ]
    largest, all_values = _bytes_of_image(graph, batch)
    room = _CACHE_BYTES // threads // max(1, largest)
    most = _MOST_IMAGES if sum(matrices) > _MANY_WEIGHTS else min(room, _MOST_IMAGES)
    # Small images and matrices: as many as take values as long a way as weights.
    weights = sum(node.arrays["weight"].nbytes for node in graph.nodes if "weight" in node.arrays)
    most = max(most, min(room, math.ceil(weights / max(1, all_values))))
    able = [n for n in range(2, batch + 1) if batch % n == 0 and batch // n >= threads]
    few = [n for n in able if n <= most]
    # Of a number without such divisors, rather too many than one by one.
    several = few or [n for n in able if n <= min(room, 4 * _MOST_IMAGES)][:1]
    return max([1, *several], key=lambda n: (_evenly(batch // n, threads), n))


def _evenly(parts: int, threads: int) -> bool:
    return parts % threads == 0 or parts >= 4 * threads


def _bytes_of_image(graph: Graph, batch: int) -> tuple[int, int]:
    """What the operator with most values reads and writes of one image, and what all do.

    Results lie elsewhere.
    """

    def size(value: str) -> int:
        if value in graph.outputs:
            return 0
        return math.prod(graph.shape(value)) * (1 if value in graph.scales else 4)

    each = [sum(map(size, (*n.inputs, *n.outputs))) for n in graph.nodes]
    return max(each, default=0) // batch, sum(each) // batch


def _values_by_image(graph: Graph, batch: int) -> set[str] | None:
    """The values whose first axis is the batch, or images times something; None if others mix it.

    What depends on no input is left out of them.
    """
    held = set(graph.inputs)
    for node in graph.nodes:
        fixed = not held.intersection(node.inputs)
        repeated = node.op == "expand" and _leads(graph.shape(node.output), batch)
        if fixed and not repeated:
            continue
        if not _keeps_images(graph, node, held, batch):
            return None
        held.update(node.outputs)
    return held if held.issuperset(graph.outputs) else None


def _leads(shape: Shape, batch: int) -> bool:
    return len(shape) > 0 and shape[0] > 0 and shape[0] % batch == 0


def _keeps_images(graph: Graph, node: Node, held: set[str], batch: int) -> bool:
    """Whether each image of the result depends on the same image of the inputs alone."""
    if len(node.outputs) != 1 or not _leads(graph.shape(node.output), batch):
        return False
    shapes = [graph.shape(name) for name in node.inputs]
    after = graph.shape(node.output)
    rows = [shape[0] for name, shape in zip(node.inputs, shapes, strict=True) if name in held]
    same = all(first == after[0] for first in rows)
    everywhere = len(rows) == len(shapes)
    # What has images has them on the output's first axis, which an array of lower rank lacks; every
    # other array, in the output's rank, is the same for all images.
    broadcast = all(
        len(shape) == len(after) if name in held else _repeats(shape, after)
        for name, shape in zip(node.inputs, shapes, strict=True)
    )
    rules: dict[str, Callable[[], bool]] = {
        "expand": lambda: broadcast and same,
        "map": lambda: (
            same
            and everywhere
            and all(_repeats(array.shape, after) for array in node.arrays.values())
        ),
        "matmul": lambda: same and broadcast and (len(after) > 2 or node.inputs[1] not in held),
        "reduce": lambda: same and len(shapes[0]) == len(after),
        "reshape": lambda: True,
        "transpose": lambda: same and int(node.attributes["order"][0]) == 0,
    }
    if node.op in _OF_TWO:
        return same and broadcast
    if node.op in _ALONG_AXIS:
        return same and everywhere and int(node.attributes["axis"]) != 0
    if node.op in _BY_IMAGE:
        return same and everywhere
    return node.op in rules and rules[node.op]()


def _repeats(shape: Shape, whole: Shape) -> bool:
    """Whether what is broadcast from `shape` to `whole` is the same along the first axis."""
    return len(shape) < len(whole) or (len(shape) == len(whole) and shape[0] == 1)

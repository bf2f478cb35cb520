"""One process of a data-parallel training in a loop of its own: two_ranks.py OUTPUT BATCH.

Each process takes its part of every batch of BATCH images, and writes its masks at every step and
its state to OUTPUT.RANK.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager

import torch
from small_networks import example, make_net
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from activsparse import ActivsparseError
from activsparse.distributed import any_rank, from_all, mean_loss, rank, world_size
from activsparse.train import Sparsifier
from activsparse.train.run.streams import restore, start_stream, stream
from activsparse.train.sparsify.norms import recalibrate_norms

STEPS = 12


@contextmanager
def counted():
    """Counts collective operations."""
    count, originals = [0], {}
    for name in ("all_gather", "all_reduce", "broadcast"):
        originals[name] = original = getattr(torch.distributed, name)

        def call(*args, original=original, **kwargs):
            count[0] += 1
            return original(*args, **kwargs)

        setattr(torch.distributed, name, call)
    try:
        yield count
    finally:
        for name, original in originals.items():
            setattr(torch.distributed, name, original)


def main(output: str, batch: int) -> None:
    torch.set_num_threads(1)
    if torch.distributed.is_torchelastic_launched():
        torch.distributed.init_process_group("gloo")
    model = make_net(0)
    own, processes = rank(), world_size()
    sparsifier = Sparsifier(
        model,
        example(),
        0.4,
        pattern="random",
        total_steps=STEPS,
        begin=0.1,
        end=0.7,
        seed=3,
    )
    wrapped = DistributedDataParallel(model) if processes > 1 else model
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
    masks, calls = [], []
    for step in range(STEPS):
        wrapped.train()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        part = slice(own * batch // processes, (own + 1) * batch // processes)
        images, labels = example(batch, seed=100 + step), torch.arange(batch) % 5
        loss = nn.functional.cross_entropy(wrapped(images[part]), labels[part])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        masks.append(sparsifier.masks())
        with counted() as count:
            sparsifier.step(loss)
        calls.append(count[0])
        assert any_rank(own == processes - 1)
        assert not any_rank(False)
    # The last images again, in two batches, of which each of two processes sees one.
    recalibrate_norms(model, images.split(batch // 2)[own::processes])
    error = ""
    try:
        mean_loss(1.0, own)
    except ActivsparseError as caught:
        error = str(caught)
    start_stream(0, own, 0)
    before = from_all(stream(None))
    drawn = torch.rand(4)
    restore(before[own], wrapped)
    again = torch.rand(4)
    result = {
        "calls": calls,
        "drawn": drawn,
        "again": again,
        "masks": [{k: torch.from_numpy(v) for k, v in m.items()} for m in masks],
        "state": model.state_dict(),
        "error": error,
    }
    torch.save(result, f"{output}.{own}")
    if torch.distributed.is_initialized():
        # A worker of the group that outlives the interpreter can end the process with an abort.
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))

"""`activsparse prune`: take channels out of a trained network."""

from __future__ import annotations

import argparse

from activsparse.cli.console import plain_console
from activsparse.cli.numbers import number, positive
from activsparse.cli.run_folder import add_checkpoint, add_trust

__all__ = ["add_parser", "run"]


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the sub-command."""
    parser = subparsers.add_parser(
        "prune",
        help="take channels out of a trained network",
        description="Take the channels of least weight out of a run's network, with the package "
        "torch-pruning, and write a run folder of the smaller one. Masks stay. Train it further "
        "with: activsparse train --recipe NAME --set init_from=DIR dense=null",
    )
    parser.add_argument("run_dir", metavar="RUN", help="folder written by activsparse train")
    parser.add_argument("--out", metavar="DIR", required=True, help="the new run folder")
    parser.add_argument(
        "--ratio",
        type=number(0, 1, "share above 0 and below 1"),
        required=True,
        metavar="R",
        help="share of channels to take out of each layer",
    )
    parser.add_argument(
        "--round-to",
        type=positive,
        default=8,
        metavar="N",
        help="numbers of channels become multiples of N (default: 8; engines compute several at "
        "a time)",
    )
    parser.add_argument(
        "--skip",
        metavar="GLOB",
        nargs="+",
        action="extend",
        default=[],
        help="layers whose outputs keep all channels",
    )
    add_checkpoint(parser)
    add_trust(parser)


def run(args: argparse.Namespace) -> int:
    """Run the sub-command."""
    from activsparse.train.prune import prune_run
    from activsparse.train.run.folder import load_run
    from activsparse.train.sparsify.layers import find_layers

    before = load_run(args.run_dir, args.checkpoint, trust=args.trust)
    after = prune_run(
        args.run_dir,
        args.out,
        args.ratio,
        round_to=args.round_to,
        skip=args.skip,
        checkpoint=args.checkpoint,
        trust=args.trust,
    )
    console = plain_console()
    for what, count in (
        ("parameters", lambda r: sum(p.numel() for p in r.model.parameters())),
        (
            "multiply-adds of convolutions, dense",
            lambda r: sum(layer.macs for layer in find_layers(r.model, r.example_input)),
        ),
    ):
        old, new = count(before), count(after)
        console.print(f"{what}: {old:,} -> {new:,} ({100 * new / old:.0f} %)")
    console.print(f"run folder: {args.out}")
    return 0

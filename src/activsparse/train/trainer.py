"""Carrying out a recipe: an optional dense phase, then training with masks, in one run folder."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor, nn

from activsparse.data import BatchData, build_data
from activsparse.data.registry import IMAGE_FOLDER
from activsparse.distributed import barrier, rank
from activsparse.errors import ActivsparseError, Call, Option
from activsparse.export.onnx import convert
from activsparse.files import atomic_path, require_file
from activsparse.overwrite import refuse_within_images
from activsparse.train.as_long import dense_as_long
from activsparse.train.phase import make_network, make_teacher, run_phase
from activsparse.train.plan.target import (
    as_chosen,
    asks_for_plan,
    check_search,
    make_plan,
)
from activsparse.train.prune import follow_pruned
from activsparse.train.recipes.config import Config, SearchSection
from activsparse.train.recipes.read import differences, dump_config
from activsparse.train.run.folder import example_input, make_sparsifier, read_run_config
from activsparse.train.run.interrupt import Interruption
from activsparse.train.run.quiet import quiet_lightning

__all__ = ["dense_phase", "resume", "train"]

_log = logging.getLogger(__name__)


def train(
    config: Config,
    out: str | Path,
    *,
    console: Console | None = None,
    trust: bool = False,
    check_export: bool = False,
) -> dict[str, Any]:
    """Train as `config` says and fill the new run folder `out`.

    Under torchrun every process calls this, and the first one writes; all machines need to see the
    same folder.

    Args:
        config: the recipe.
        out: run folder, created; must not hold a run.
        console: shows a progress bar there; without one each epoch is logged.
        trust: whether run folders that the recipe names may call code of their own, see `load_run`;
            what the recipe itself names is called in any case.
        check_export: whether the network, with masks, is exported to ONNX once before anything is
            trained: what cannot be exported should show before its training is paid for.

    Returns:
        The content of summary.json.

    Raises:
        ActivsparseError: bad options, data that cannot be had, a folder in use, a loss that is not
            finite.
        Interrupted: by SIGINT or SIGTERM; `resume` continues.
    """
    config = follow_pruned(config, trust)
    _check_device(config.device)
    check_search(config)
    folder = Path(out)
    first = rank() == 0
    if first and (folder / "config.yaml").exists():
        raise ActivsparseError(
            f"{folder}: holds a run already; name another one, or continue it with ",
            Call("activsparse.train.trainer.resume", (str(folder),)),
        )
    if config.data.root is not None and config.data.name == IMAGE_FOLDER:
        refuse_within_images(folder, Path(config.data.root).expanduser())
    # Mistakes in the recipe should show before the folder exists, and before a dense phase is over.
    data = _data(config)
    network, example = make_network(config, data), example_input(data.shape)
    sparsifier = make_sparsifier(network, example, config, total_steps=1)
    if check_export and first:
        if sparsifier is not None:
            sparsifier.freeze()  # with the masks it ends with
        _check_export(network, example)
    if not _will_be_own_teacher(config):
        make_teacher(config, data, trust or config)
    if first:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ActivsparseError(
                f"{folder}: cannot be created ({error.strerror}); choose a writable place"
            ) from error
        _write(folder / "config.yaml", dump_config(config))
    return _carry_out(config, folder, data, console, trust)


def resume(
    out: str | Path,
    config: Config | None = None,
    *,
    console: Console | None = None,
    trust: bool = False,
) -> dict[str, Any]:
    """Continue a stopped run where it stopped; of a finished one, return the summary.

    Args:
        out: run folder.
        config: the recipe the run is expected to be of, if any.
        console: as for `train`.
        trust: whether the run's config.yaml may call code of its own that `config` does not call,
            see `load_run`.

    Raises:
        ActivsparseError: no run folder, or one of another recipe. Otherwise as `train`.
    """
    folder = Path(out)
    recorded = read_run_config(folder, trust or config or False)
    _check_device(recorded.device)
    if config is not None:
        # What the run itself has filled in is no difference.
        config = as_chosen(follow_pruned(config, trust), recorded)
    odd = [] if config is None else differences(recorded, config)
    if config is not None and odd:
        raise ActivsparseError(
            f"{folder}: is a run of another recipe ({recorded.recipe}: {odd[0]}); start one of "
            f"{config.recipe} in another folder, or resume without a recipe"
        )
    if (folder / "summary.json").is_file():
        summary = _read_summary(folder)
        _log.info("%s: is finished already", folder)
        return summary
    return _carry_out(recorded, folder, _data(recorded), console, trust)


def dense_phase(config: Config) -> Config:
    """The recipe of the first phase alone, which trains without masks."""
    return config.model_copy(
        update={
            "training": config.dense or config.training,
            "dense": None,
            "sparsity": None,
            "search": SearchSection(),
            "distillation": None,
        }
    )


def _carry_out(
    config: Config, folder: Path, data: BatchData, console: Console | None, trust: bool
) -> dict[str, Any]:
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    with Interruption() as interruption, quiet_lightning():
        dense = None
        main = config
        if config.dense is not None and config.init_from is None:
            dense_folder = folder / "dense"
            main = config.model_copy(update={"init_from": str(dense_folder)})
            if (dense_folder / "summary.json").is_file():
                dense = _read_summary(dense_folder)
            else:
                plain = dense_phase(config)
                if rank() == 0:
                    dense_folder.mkdir(exist_ok=True)
                    _write(dense_folder / "config.yaml", dump_config(plain))
                summary = run_phase(
                    plain, dense_folder, data, interruption, console, "dense", trust
                )
                dense = _finish(dense_folder, {**summary, "dense": None})
                # The second phase draws its batches from the start again.
                data.resume(0, 0)
        elif main.init_from is not None and (Path(main.init_from) / "summary.json").is_file():
            dense = _read_summary(Path(main.init_from))
        if asks_for_plan(main) and main.init_from is not None:
            chosen = make_plan(config, folder, Path(main.init_from), trust)
            # A resumed run finds the choice made.
            _write(folder / "config.yaml", dump_config(chosen))
            main = chosen.model_copy(update={"init_from": main.init_from})
        title = "dense" if config.sparsity is None else config.sparsity.pattern
        summary = run_phase(main, folder, data, interruption, console, title, trust)
        summary["dense"] = dense
        if summary["layers"]:
            summary["dense_as_long"] = dense_as_long(folder, config, summary)
        return _finish(folder, summary)


def _check_device(device: str) -> None:
    missing = (device == "cuda" and not torch.cuda.is_available()) or (
        device == "mps" and not torch.backends.mps.is_available()
    )
    if missing:
        raise ActivsparseError(
            f"device {device}: torch finds none on this machine; set device to auto or cpu"
        )


def _check_export(network: nn.Module, example: Tensor) -> None:
    try:
        convert(network.eval(), example, verify=False)
    except ActivsparseError as error:
        raise ActivsparseError(
            "what would be trained cannot be exported: ",
            error,
            "; change the network, or train it all the same with ",
            Option("check_export", False),
        ) from error


def _will_be_own_teacher(config: Config) -> bool:
    options = config.distillation
    own = options is not None and options.model is None and options.teacher == "dense"
    return own and config.init_from is None and config.dense is not None


def _data(config: Config) -> BatchData:
    options = config.data.model_dump()
    return build_data(**options, seed=config.seed, train_size=_train_size(config))


def _train_size(config: Config) -> int | tuple[int, int] | None:
    """Of training images: what the teacher sees."""
    return None if config.distillation is None else config.distillation.image_size


def _finish(folder: Path, summary: dict[str, Any]) -> dict[str, Any]:
    if rank() == 0:
        _write(folder / "summary.json", json.dumps(summary, indent=2) + "\n")
    barrier()
    return _read_summary(folder)


def _read_summary(folder: Path) -> dict[str, Any]:
    file = folder / "summary.json"
    try:
        content: Any = json.loads(require_file(file).read_bytes())
        whole = {"recipe", "seconds", "achieved", "kept_macs", "layers", "dense"} <= {*content}
    except (ValueError, TypeError, RecursionError) as error:
        raise ActivsparseError(
            f"{file}: is damaged ({error}); delete it and resume the run"
        ) from error
    if not isinstance(content, dict) or not whole:
        raise ActivsparseError(f"{file}: is not the summary of a run; delete it and resume the run")
    return content


def _write(path: Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")

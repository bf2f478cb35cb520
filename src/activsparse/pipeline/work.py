"""The folder that one call of `activsparse sparsify` fills, and what its stages share."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from rich.console import Console

from activsparse.data import BatchData, build_data
from activsparse.data.folders import pictures_below
from activsparse.engine.session import Session
from activsparse.errors import ActivsparseError, Option
from activsparse.files import atomic_path
from activsparse.overwrite import refuse_within_images
from activsparse.pipeline.options import SMALLER_INPUT, SparsifyOptions, recipe_of
from activsparse.pipeline.progress import Measuring
from activsparse.train.phase import make_network
from activsparse.train.recipes.config import Config
from activsparse.train.run.folder import (
    Run,
    example_input,
    load_run,
    make_sparsifier,
    read_run_config,
)
from activsparse.train.trainer import dense_phase

__all__ = ["NOTED", "Work", "file_of", "folder_of"]

_log = logging.getLogger(__name__)

NOTED = "sparsify.json"
"""The file by which such a folder is known."""


def file_of(network: str) -> str:
    """Name of a network's ONNX file."""
    return f"{folder_of(network)}.onnx"


def folder_of(network: str) -> str:
    """Name of the run folder it is trained in."""
    return network.replace(" ", ".")


@dataclass(frozen=True)
class Work:
    """What every stage gets.

    Attributes:
        options: what was asked for.
        folder: of all results.
        console: shows progress bars; None where there is no terminal.
        command: that does it all, for the model card.
    """

    options: SparsifyOptions
    folder: Path
    console: Console | None = None
    command: str = ""

    @cached_property
    def config(self) -> Config:
        """The recipe."""
        return recipe_of(self.options)

    @cached_property
    def data(self) -> BatchData:
        """The images."""
        return build_data(**self.config.data.model_dump(), seed=self.config.seed)

    @cached_property
    def smaller_data(self) -> BatchData:
        """The images at the size of the network with a smaller input."""
        section = read_run_config(self.path(folder_of(SMALLER_INPUT)), self.config).data
        return build_data(**section.model_dump(), seed=self.config.seed)

    @property
    def smaller_size(self) -> tuple[int, int]:
        """(H, W) of that."""
        _, height, width = self.smaller_data.shape
        return height, width

    def data_of(self, network: str) -> BatchData:
        """The images as one of `networks` sees them."""
        return self.smaller_data if network == SMALLER_INPUT else self.data

    def path(self, name: str) -> Path:
        """A file or folder of the results."""
        return self.folder / name

    @property
    def networks(self) -> dict[str, Path]:
        """The ONNX files that are checked, asked and timed, by name, `dense` first."""
        names = ["dense", "masked", *self.options.alternatives]
        names += ["dense int8", "masked int8"] if self.options.int8 else []
        return {name: self.path(file_of(name)) for name in names}

    def session(self, path: Path) -> Session:
        """One of the ONNX files in this engine."""
        return Session(path, threads=self.options.threads, fallback=self.options.fallback)

    def run(self, name: str) -> Run:
        """A trained network of the results: `dense`, `masked` or an alternative."""
        return load_run(self.path(folder_of(name)), trust=self.config)

    def check(self) -> None:
        """Find mistakes in the options before there is a folder: make the network and its masks.

        Raises:
            ActivsparseError: there is no such network, data or layer, or one does not fit another.
        """
        model, untrained = self.options.model, self.options.dense_epochs == 0
        if untrained and self.options.weights is None and ":" not in model:
            raise ActivsparseError(
                f"{model}: random weights know nothing; name its weights in ",
                Option("weights"),
                ", or leave out ",
                Option("dense_epochs"),
                " to let it be trained",
            )
        if self.config.model.small_images:
            _log.info(
                "%s gets a stem for small images (model.small_images; false keeps its own)", model
            )
        network = make_network(dense_phase(self.config), self.data)
        make_sparsifier(network, example_input(self.data.shape), self.config, total_steps=1)

    def claim(self, last: Callable[[], None] = lambda: None) -> None:
        """Note in the folder what it is for, or see that it is for the same.

        Args:
            last: what else is to be seen before there is a folder, and takes longest.

        Raises:
            ActivsparseError: it holds the results of other options, or of something else; an image
                cannot be read.
        """
        file, asked = self.path(NOTED), self._asked()
        if file.is_file():
            try:
                there = dict(json.loads(file.read_text(encoding="utf-8")))
            except (ValueError, TypeError):
                raise ActivsparseError(
                    f"{file}: is damaged; restore it, or name another folder in ", Option("out")
                ) from None
            for name, here in asked.items():
                # What another version did not know was not asked of it.
                if there.get(name) != here if name in there else here:
                    raise _other(self.folder, name, there.get(name), here)
            return
        root = self.config.data.root
        if root is not None:
            refuse_within_images(self.folder, _place(root))
        if self.folder.is_dir() and any(self.folder.iterdir()):
            raise ActivsparseError(
                f"{self.folder}: holds other files; name a new or empty folder in ", Option("out")
            )
        if root is not None:
            self._look_at_pictures()
        last()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ActivsparseError(
                f"{self.folder}: cannot be created ({error.strerror}); choose a writable place"
            ) from error
        self.write(NOTED, json.dumps(asked, indent=1) + "\n")

    def write(self, name: str, text: str) -> None:
        """Write a result as text, whole or not at all."""
        with atomic_path(self.path(name)) as temporary:
            temporary.write_text(text, encoding="utf-8")

    def _look_at_pictures(self) -> None:
        """Read every picture once: a damaged one is told of now, not after hours of training."""
        with Measuring("reading the images", self.console) as progress:
            total = self.data.size
            for done, _ in enumerate(self.data.samples(), 1):
                progress.advance(done, total)

    def _asked(self) -> dict[str, Any]:
        asked: dict[str, Any] = json.loads(json.dumps(asdict(self.options)))
        weights = self.options.weights
        if weights not in (None, "default") and Path(str(weights)).is_file():
            content = Path(str(weights)).read_bytes()
            asked["weights"] = f"{weights} ({_digest(content)})"
        if self.config.data.root is not None:
            asked["data"] = f"{self.options.data} ({_pictures(_place(self.config.data.root))})"
        return asked


def _place(root: str) -> Path:
    return Path(root).expanduser()


def _pictures(folder: Path) -> str:
    """How many images a folder holds, and a digest of their names.

    One more or less, and others are held out: some that a network was trained on.
    """
    names = sorted(os.path.relpath(path, folder) for path in pictures_below(folder))
    return f"{len(names)} images, {_digest(os.fsencode(chr(0).join(names)))}"


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=8).hexdigest()


def _other(folder: Path, name: str, there: Any, here: Any) -> ActivsparseError:
    was = "without" if there in (None, False, []) else f"with {_told(there)} as"
    now = "it is left out" if here in (None, False, []) else f"it is {_told(here)}"
    return ActivsparseError(
        f"{folder}: was begun {was} ",
        Option(name),
        f", and now {now}; give the same options to go on, or name another folder in ",
        Option("out"),
    )


def _told(value: Any) -> str:
    if value is True:
        return "given"
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)

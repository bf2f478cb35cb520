"""Training a network whose convolutions skip fixed sets of output positions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from activsparse.distributed import agree, world_size
from activsparse.errors import ActivsparseError
from activsparse.masks import FloatMap, Mask, MaskOptions, Savings, nearest_source
from activsparse.masks.maker import MaskMaker, score_map
from activsparse.masks.mask_plan import MaskPlan
from activsparse.masks.placement import fill_of
from activsparse.masks.requests import request_sparsities
from activsparse.masks.stored import MASK, SOURCE, STATE
from activsparse.train.sparsify.hooks import (
    Links,
    attach_mask,
    copy_masks,
    read_mask,
    remove_masks,
    unwrapped,
)
from activsparse.train.sparsify.layers import find_layers, image_size
from activsparse.train.sparsify.planned import PlannedMasks, as_plan, planned_layers
from activsparse.train.sparsify.schedule import make_schedule
from activsparse.train.sparsify.state import SparsifierState
from activsparse.values import check_count

__all__ = ["LayerReport", "Sparsifier"]


@dataclass(frozen=True)
class LayerReport:
    """A masked layer.

    Attributes:
        name: module name of the convolution.
        host: name of the module that holds the mask.
        shape: (OH, OW).
        requested: final sparsity asked for.
        achieved: sparsity of the present mask.
        macs: dense multiply-adds of one image.
    """

    name: str
    host: str
    shape: tuple[int, int]
    requested: float
    achieved: float
    macs: int


class Sparsifier:
    """Puts masks into `model` and moves them along a schedule while the model is trained.

    Three lines in a training loop::

        sparsifier = Sparsifier(model, example_input, sparsity=0.3, total_steps=steps)
        ...
            optimizer.step()
            sparsifier.step(loss)

    The model keeps its masks through deepcopy, `state_dict` and ONNX export; averages of weights
    with buffers get theirs from `copy_masks_to`.
    Training mode may run dense at some steps of the schedule; evaluation mode always runs sparse.
    All state is in `model.state_dict()`; to resume, build the same model and Sparsifier and load
    it.

    Args:
        model: any module with Conv2d layers; changed in place (buffers and hooks, no weights).
        example_input: (N, C, H, W), or a tuple of the model's arguments with one among them. Masks
            belong to its size, which need not be square nor divisible by the strides.
        sparsity: share of output positions not computed in every masked layer, in [0, 1); by
            default that of `options`.
        options: which layers are masked and how.
        schedule: `polynomial`, or `constant` for the full sparsity from `begin` on.
        initial_sparsity: sparsity at `begin` under the polynomial schedule.
        begin: first sparse step, as a fraction of `total_steps`.
        end: step at which the masks are frozen, as a fraction of `total_steps`.
        frequency: draw masks every so many steps; the steps between run dense until the masks are
            frozen.
        total_steps: number of optimiser steps of the whole training. None: no schedule, the masks
            are set and frozen at once.
        seed: of the score maps; equal seeds give equal masks on every machine and rank.
        plan: a mask plan (`activsparse plan`), or its file. It takes the place of all options that
            say which layers get which masks, where and with what fill; of the schedule `begin`,
            `end` and `frequency` count. Its masks are the same from the first sparse step on.
        changes: single options by name, over those in `options`: `pattern="lattice"` and so on, all
            documented at `activsparse.masks.MaskOptions`.

    Raises:
        ActivsparseError: an argument out of range or that matches nothing, a sparsity that leaves a
            layer without positions, a block larger than a map, a model that is sparsified already.
    """

    def __init__(
        self,
        model: nn.Module,
        example_input: Tensor | tuple[Any, ...],
        sparsity: float | None = None,
        *,
        options: MaskOptions | None = None,
        schedule: str = "polynomial",
        initial_sparsity: float = 0.0,
        begin: float = 0.1,
        end: float = 0.9,
        frequency: int = 1,
        total_steps: int | None = None,
        seed: int = 0,
        plan: MaskPlan | str | Path | None = None,
        **changes: Any,
    ) -> None:
        if sparsity is not None:
            changes["sparsity"] = sparsity
        plan = None if plan is None else as_plan(plan)
        if plan is not None:
            changes |= {"site": plan.site, "importance_weight": 0.0}
        self.options = (options or MaskOptions()).but(**changes)
        check_count("seed", seed, least=0)
        model = unwrapped(model)
        if STATE in dict(model.named_children()):
            raise ActivsparseError(
                "the model has masks already; call detach() of its Sparsifier first"
            )
        self.schedule = make_schedule(
            total_steps,
            begin=begin,
            end=end,
            frequency=frequency,
            initial=initial_sparsity,
            kind=schedule,
        )
        self.model = model

        found = find_layers(model, example_input)
        self.image_size = image_size(example_input)
        own: frozenset[str] = frozenset()
        if plan is not None:
            self.requested, self.skipped = planned_layers(found, plan, self.image_size)
        else:
            requests = request_sparsities(found, self.options)
            self.requested, self.skipped, own = requests.sparsities, requests.dense, requests.own
        self._dense_macs = sum(layer.macs for layer in found)
        self._layers = [layer for layer in found if layer.name in self.requested]
        self._maker: MaskMaker | PlannedMasks
        if plan is not None:
            self._maker = PlannedMasks(self._layers, plan)
            fills = self._maker.fills
        else:
            self._maker = MaskMaker(self._layers, self.image_size, self.options, own)
            fills = {layer.name: fill_of(layer, self.options) for layer in self._layers}
        self._maker.check(self._final)

        made_with = {**self._maker.describe(self._final), "site": self.options.site}
        if plan is None:
            made_with["fill"] = self.options.fill
        self.state = SparsifierState(int(seed), self.schedule, made_with).train(model.training)
        if self.options.importance_weight:
            positions = sum(layer.shape.positions for layer in self._layers)
            self.state.register_buffer("importance", torch.zeros(positions))
        some_tensor = next(iter(model.parameters()), None)
        if some_tensor is not None:
            self.state.to(some_tensor.device)
        modules = dict(model.named_modules())
        self._hosts = [modules[layer.host(self.options.site)] for layer in self._layers]
        model.add_module(STATE, self.state)
        for layer, host in zip(self._layers, self._hosts, strict=True):
            parts = [modules[name] for name in (layer.name, layer.norm) if name is not None]
            shape, fill = layer.shape.output, fills[layer.name]
            attach_mask(layer.name, [*parts, host], shape, fill, self.state)
        self._links = Links(model)
        self._compared = False
        self._enter(0)

    def __repr__(self) -> str:
        """The masked layers, a line each."""
        layers = self.layers
        head = (
            f"Sparsifier({len(layers)} masked layers, {self.pattern}, {self.phase}: "
            f"sparsity {self.savings.sparsity:.3f}, {self.savings.saved:.3f} of all convolutions' "
            "multiply-adds saved)"
        )
        return "\n".join(
            [
                head,
                *(
                    f"  {x.name} {x.shape[0]}x{x.shape[1]}: "
                    f"{x.requested:.3f} requested, {x.achieved:.3f} skipped"
                    for x in layers
                ),
            ]
        )

    def step(self, loss: Tensor | float | None = None, *, agreed: bool = False) -> None:
        """Finish an optimiser step and set the masks of the next one.

        Args:
            loss: the training loss of the finished step, a scalar; the masks of the lowest one are
                kept at the end. Under torch.distributed the mean over all ranks counts. Without
                losses the latest masks are kept.
            agreed: whether `loss` is that mean already, and seeds and steps were compared.

        Raises:
            ActivsparseError: the loss is no scalar; seed or step differ between processes; a masked
                layer was replaced in the model, see `check_attached`.
        """
        self.check_attached()
        state, step = self.state, self.state.step
        if self.needs_loss and not agreed:
            loss, _ = agree(loss, False, state.seed, step, device=state.device)
        self._compared = True
        if loss is not None and not self.frozen and self.schedule.is_pruning_step(step):
            state.remember(step, float(loss))
        state.step += 1
        self._enter(step + 1)

    def freeze(self) -> None:
        """Make the best masks so far final, at the full requested sparsity; once is enough.

        Raises:
            ActivsparseError: a masked layer was replaced in the model, see `check_attached`.
        """
        self.check_attached()
        if self.frozen:
            return
        self._write(self.source_step, self._final)
        self.state.frozen = True
        self.state.refresh()

    def settle(self, source_step: int) -> None:
        """Make the masks that follow from `source_step` final, whatever was before.

        Args:
            source_step: a step of training, or a candidate's number
                (`activsparse.train.sparsify.candidates` searches among those).
        """
        self.state.best_step = int(source_step)
        self.state.frozen = False
        self.freeze()

    def set_importance(self, maps: Mapping[str, FloatMap]) -> None:
        """Let the scores of all masks from now on take account of how much positions matter.

        Args:
            maps: float (OH, OW) by name of every masked convolution, see
                `activsparse.train.sparsify.importance.measure_importance`. Their order counts, not
                their scale.

        Raises:
            ActivsparseError: the Sparsifier was made without importance_weight, or a map is missing
                or of another size.
        """
        if not self.options.importance_weight:
            raise ActivsparseError("scores leave no room for importance; set importance_weight")
        for layer in self._layers:
            if layer.name not in maps or maps[layer.name].shape != layer.shape.output:
                raise ActivsparseError(
                    f"layer {layer.name}: its importance is missing or of another size; measure "
                    "it with activsparse.train.sparsify.importance.measure_importance"
                )
        flat = np.concatenate([maps[layer.name].ravel() for layer in self._layers])
        self.state.get_buffer("importance").copy_(torch.from_numpy(flat))
        if self.frozen:
            self._write(self.source_step, self._final)
        else:
            self._enter(self.current_step)

    def check_attached(self) -> None:
        """See that the model still holds the masked layers; takes microseconds.

        Raises:
            ActivsparseError: it does not; a conversion (of norms, say) has replaced modules.
        """
        self._links.check()

    def copy_masks_to(self, other: nn.Module) -> None:
        """Give a copy of the model its present masks, as `AveragedModel(use_buffers=True)` needs.

        That one, timm's `ModelEma` and YOLO's average masks too while they move, and an average of
        masks is none: the export refuses it.

        Raises:
            ActivsparseError: `other` is no copy of the masked model.
        """
        copy_masks(self.model, other)

    def detach(self) -> None:
        """Take masks, hooks and state out of the model again; its weights stay as trained."""
        remove_masks(self.model)

    @property
    def current_step(self) -> int:
        """Optimiser steps done."""
        return self.state.step

    @property
    def needs_loss(self) -> bool:
        """Whether processes must agree on the loss of the present step: it decides about masks.

        In a first step they compare seed and step in any case, for one may have loaded a state
        that another has not.
        """
        if not self._compared and world_size() > 1:
            return True
        return not self.frozen and self.schedule.is_pruning_step(self.state.step)

    @property
    def source_step(self) -> int:
        """The step whose score map gives the best masks so far, else the latest ones."""
        best = self.state.best_step
        return best if best >= 0 else self._latest_pruning_step()

    @property
    def frozen(self) -> bool:
        """Whether the masks are final."""
        return self.state.frozen

    @property
    def phase(self) -> str:
        """`dense` before the first masks and between pruning steps, `sparse`, or `frozen`."""
        if self.frozen:
            return "frozen"
        return "dense" if self.state.bypass else "sparse"

    @property
    def pattern(self) -> str:
        """The masks' pattern; `plan` where a mask plan gives each layer its own."""
        return self._maker.pattern

    @property
    def layers(self) -> list[LayerReport]:
        """The masked layers in the order of execution."""
        return [
            LayerReport(
                name=layer.name,
                host=layer.host(self.options.site),
                shape=layer.shape.output,
                requested=self.requested[layer.name],
                achieved=1.0 - float(mask.mean()),
                macs=layer.macs,
            )
            for layer, mask in zip(self._layers, self.masks().values(), strict=True)
        ]

    @property
    def achieved_sparsity(self) -> float:
        """Share of the masked layers' output positions skipped now, see `Savings`."""
        return self.savings.sparsity

    @property
    def kept_macs(self) -> float:
        """Share of all convolutions' multiply-adds that is computed under the present masks."""
        return 1.0 - self.savings.saved

    @property
    def savings(self) -> Savings:
        """What the present masks leave out of the network."""
        return Savings.of(((x.achieved, x.macs) for x in self.layers), self._dense_macs)

    @property
    def score_map(self) -> FloatMap:
        """Score map of the best step so far, else of the latest: float32 (H, W) at input size."""
        return score_map(self.image_size, self.state.seed, self.source_step)

    def masks(self) -> dict[str, Mask]:
        """The present masks by convolution name: bool (OH, OW), True = computed."""
        return {
            layer.name: read_mask(host, layer.name)
            for layer, host in zip(self._layers, self._hosts, strict=True)
        }

    @property
    def _final(self) -> list[float]:
        return [self.requested[layer.name] for layer in self._layers]

    def _importance(self) -> list[FloatMap] | None:
        buffer = self.state._buffers.get("importance")
        if buffer is None or not bool(buffer.any()):
            return None
        maps, start = [], 0
        for layer in self._layers:
            size = layer.shape.positions
            maps.append(buffer[start : start + size].cpu().numpy().reshape(layer.shape.output))
            start += size
        return maps

    def _latest_pruning_step(self) -> int:
        step = max(min(self.current_step, self.schedule.end - 1), 0)
        return max(step - step % self.schedule.frequency, self.schedule.begin)

    def _enter(self, step: int) -> None:
        """Set masks and mode for `step`."""
        if not self.frozen and self.schedule.is_over(step):
            self.freeze()
        elif not self.frozen and self.schedule.is_pruning_step(step):
            self._write(step, [self.schedule.sparsity(step, final) for final in self._final])
        self.state.refresh()

    @torch.no_grad()
    def _write(self, source_step: int, sparsities: Sequence[float]) -> None:
        seed = self.state.seed
        masks = self._maker.masks(seed, source_step, sparsities, self._importance())
        for mask, host in zip(masks, self._hosts, strict=True):
            host.get_buffer(MASK)[0, 0].copy_(torch.from_numpy(mask))
            if SOURCE in host._buffers:
                source = nearest_source(mask).astype(np.int64)
                host.get_buffer(SOURCE).copy_(torch.from_numpy(source))

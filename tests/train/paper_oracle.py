"""The published procedure, written from its description with numpy alone, to compare ours with."""

from __future__ import annotations

import math

import numpy as np

__all__ = ["PaperOracle"]


class PaperOracle:
    """Masks of each training step. `shapes` maps layer names to (OH, OW)."""

    def __init__(self, shapes, image, sparsity, begin, end, frequency, initial, seed, criterion):
        self.shapes = shapes
        self.image = image
        self.final = sparsity
        self.begin, self.end, self.frequency, self.initial = begin, end, frequency, initial
        self.seed = seed
        self.criterion = criterion
        self.step = 0
        self.best = (math.inf, None)
        self.frozen = None
        self.masks = {name: np.ones(shape, dtype=bool) for name, shape in shapes.items()}
        self._start_step()

    def maps(self, step):
        """Score map of each layer at its own size."""
        if self.criterion == "random":
            return {
                name: np.random.default_rng([self.seed, step, i + 1]).random(
                    shape, dtype=np.float32
                )
                for i, (name, shape) in enumerate(self.shapes.items())
            }
        score = np.random.default_rng([self.seed, step]).random(self.image, dtype=np.float32)
        pooled = {shape: self.pool(score, shape) for shape in set(self.shapes.values())}
        return {name: pooled[shape] for name, shape in self.shapes.items()}

    @staticmethod
    def pool(score, shape):
        """Mean of every adaptive window, one by one."""
        pooled = np.empty(shape)
        for i in range(shape[0]):
            top = (i * score.shape[0]) // shape[0]
            bottom = math.ceil((i + 1) * score.shape[0] / shape[0])
            for j in range(shape[1]):
                left = (j * score.shape[1]) // shape[1]
                right = math.ceil((j + 1) * score.shape[1] / shape[1])
                pooled[i, j] = score[top:bottom, left:right].astype(np.float64).mean()
        return pooled

    @staticmethod
    def cut(score, sparsity):
        """Mask without the round(s * positions) lowest scores."""
        flat = score.astype(np.float32).ravel()
        lowest = sorted(range(flat.size), key=lambda p: (flat[p], p))[: round(sparsity * flat.size)]
        mask = np.ones(flat.size, dtype=bool)
        mask[lowest] = False
        return mask.reshape(score.shape)

    def sparsity(self, step):
        ratio = (step - self.begin) / (self.end - self.begin)
        return self.final + (self.initial - self.final) * (1 - ratio) ** 2

    @property
    def dense(self):
        """Whether training runs without masks at the present step."""
        if self.frozen is not None:
            return False
        return self.step < self.begin or self.step % self.frequency != 0

    def _start_step(self):
        if self.frozen is not None:
            return
        if self.step >= self.end:
            maps = self.best[1]
            self.frozen = self.masks = {n: self.cut(m, self.final) for n, m in maps.items()}
        elif not self.dense:
            now = self.sparsity(self.step)
            self.masks = {n: self.cut(m, now) for n, m in self.maps(self.step).items()}

    def finish(self, loss):
        if self.frozen is None and not self.dense and loss < self.best[0]:
            self.best = (loss, self.maps(self.step))
        self.step += 1
        self._start_step()

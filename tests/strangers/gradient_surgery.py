"""Gradient surgery (PCGrad, arXiv 2001.06782) on MT-SAC, as somebody from outside writes it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from algorithms.algorithm import Batch
from algorithms.mtsac import MTSAC
from algorithms.parts.adam import State


class Surgery(MTSAC):
    """MT-SAC whose tasks do not push against each other; in the order of the tasks."""

    def differentiate(
        self, name: Literal["actor", "critic"], state: State, batch: Batch
    ) -> tuple[Tensor, dict[str, Tensor], Callable[[Tensor], dict[str, Tensor]]]:
        loss, metrics, gradient = super().differentiate(name, state, batch)

        def surgery(weight: Tensor) -> dict[str, Tensor]:
            by_task = [gradient(only) for only in weight.diag()]
            joined = {}
            for part in by_task[0]:
                rows = torch.stack([own[part].flatten() for own in by_task])
                total = torch.zeros_like(rows[0])
                for i in range(self.tasks):
                    mine = rows[i]
                    for j in range(self.tasks):
                        if j != i:
                            against = (mine @ rows[j]).clamp(max=0) / (rows[j] @ rows[j] + 1e-12)
                            mine = mine - against * rows[j]
                    total = total + mine
                joined[part] = total.view_as(by_task[0][part])
            return joined

        return loss, metrics, surgery

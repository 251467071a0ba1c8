"""Sizes without memory: networks are built where tensors have shapes and no data."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from algorithms.algorithm import Algorithm, Problem


class StayOnMeta(TorchFunctionMode):
    """Leaves a tensor without data where it is when it is sent to another device."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in (Tensor.to, Tensor.cpu, Tensor.cuda) and args[0].is_meta:
            return args[0]
        return func(*args, **(kwargs or {}))


def without_memory(kind: type[Algorithm], settings: Any, problem: Problem) -> Algorithm:
    """The algorithm with weights that have shapes only, to be counted.

    Raises ValueError where it reads the values of tensors as it is built.
    """
    try:
        with torch.device("meta"), StayOnMeta():
            return kind(settings, problem)
    except (RuntimeError, NotImplementedError, TypeError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(
            f"it cannot be counted without memory ({reason}); its constructor must not read the "
            "values of tensors"
        ) from error

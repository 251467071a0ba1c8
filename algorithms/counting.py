"""Sizes without memory: networks are built where tensors have shapes and no data."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from algorithms.algorithm import Algorithm, Problem


class Uncountable(ValueError):
    """An algorithm that cannot be built without memory, and perhaps with it."""


UNMOVED = {Tensor.to, Tensor.cpu, Tensor.cuda}
UNDRAWN = {
    *(Tensor.normal_, Tensor.uniform_, nn.init.normal_, nn.init.uniform_),
    *(nn.init.kaiming_uniform_, nn.init.trunc_normal_),
}


class StayOnMeta(TorchFunctionMode):
    """Leaves a tensor without data where it is when it is sent to another device, and does not fill
    it, for which torch would first import its compiler.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in UNMOVED | UNDRAWN:
            tensor: Tensor = args[0] if args else kwargs["tensor"]
            if tensor.is_meta:
                return tensor
        return func(*args, **kwargs)


def without_memory(kind: type[Algorithm], settings: Any, problem: Problem) -> Algorithm:
    """The algorithm with weights that have shapes only, to be counted.

    Raises Uncountable where it cannot be built so, as where it reads the values of tensors, and
    whatever ValueError it refuses its settings with.
    """
    try:
        with torch.device("meta"), StayOnMeta():
            return kind(settings, problem)
    except ValueError:
        raise
    except Exception as error:  # whatever a user's method raises
        reason = str(error).strip().partition("\n")[0]
        if "meta" not in reason:  # torch's word for tensors without data
            raise Uncountable(f"it cannot be built ({type(error).__name__}: {reason})") from error
        raise Uncountable(
            f"it cannot be counted without memory ({reason}); its constructor must not read the "
            "values of tensors"
        ) from error

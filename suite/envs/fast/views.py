"""Named parts of an MjData whose arrays are looked up once.

MuJoCo's named access builds an object and an array at every use, about 1 µs; both can be kept, as
the arrays are views of memory that lives and moves with the simulation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray


class _Part:
    """One body, geom, site or joint: the fields that Meta-World's step reads."""

    __slots__ = ("id", "qpos", "xmat", "xpos", "xquat")

    id: int
    xpos: NDArray[np.float64]
    xquat: NDArray[np.float64]
    xmat: NDArray[np.float64]
    qpos: NDArray[np.float64]

    def __init__(self, named: Any) -> None:
        self.id = named.id
        for field in ("xpos", "xquat", "xmat", "qpos"):
            if hasattr(named, field):
                setattr(self, field, getattr(named, field))


class _Parts(dict[str, _Part]):
    def __init__(self, look_up: Callable[[str], Any]) -> None:
        super().__init__()
        self._look_up = look_up

    def __missing__(self, name: str) -> _Part:
        part = self[name] = _Part(self._look_up(name))
        return part


class LiveViews:
    """Stands where Meta-World's functions say `self.data`: `.body(name)`, `.geom`, `.site`,
    `.joint`. Every array is a live view, as MuJoCo's are; an unknown name raises KeyError.
    """

    __slots__ = ("body", "geom", "joint", "site")

    body: Callable[[str], _Part]
    geom: Callable[[str], _Part]
    site: Callable[[str], _Part]
    joint: Callable[[str], _Part]

    def __init__(self, data: mujoco.MjData) -> None:
        self.body = _Parts(data.body).__getitem__
        self.geom = _Parts(data.geom).__getitem__
        self.site = _Parts(data.site).__getitem__
        self.joint = _Parts(data.joint).__getitem__

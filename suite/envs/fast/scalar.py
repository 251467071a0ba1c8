"""Scalar twins of the array functions that Meta-World's rewards call: same bits, same types.

Meta-World computes a reward from a dozen numbers, and spends most of that time in NumPy's and
SciPy's generality. Each function below repeats, on Python floats, exactly the IEEE operations that
the original performs for the inputs Meta-World gives it, and hands every other input to the
original. Where the original's arithmetic is a library's own code (the dot product, `exp`), the same
library routine is called.
"""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any

import numpy as np
from metaworld.utils import reward_utils
from scipy.spatial.transform import Rotation

_float64 = np.float64
_ndarray = np.ndarray
_FLOAT64 = np.dtype(np.float64)
_sqrt = math.sqrt
_concatenate = np.concatenate
_array = np.array
_empty = np.empty
_exp = np.exp
_numpy_abs = np.abs
_numpy_clip = np.clip
_numpy_hstack = np.hstack
_numpy_norm = np.linalg.norm
_original_product: Any = reward_utils.hamacher_product
_original_tolerance: Any = reward_utils.tolerance
_scipy_from_matrix = Rotation.from_matrix

# reward_utils' own expressions, evaluated once for the one margin value that the tasks use.
_VALUE_AT_MARGIN = reward_utils._DEFAULT_VALUE_AT_MARGIN
_LONG_TAIL_SCALE = float(np.sqrt(1 / _VALUE_AT_MARGIN - 1))
_GAUSSIAN_SCALE = float(np.sqrt(-2 * np.log(_VALUE_AT_MARGIN)))


def norm(x: Any, ord: Any = None) -> Any:
    """`np.linalg.norm` of a contiguous float64 vector, by the same dot product and square root, or
    of one float64.
    """
    if ord is None or ord == 2:
        if type(x) is _ndarray:
            if x.strides == (8,) and x.dtype is _FLOAT64:
                return _float64(_sqrt(x.dot(x)))
        elif type(x) is _float64 and ord is None:
            x = float(x)
            return _float64(_sqrt(x * x))
    return _numpy_norm(x, ord)


def absolute(x: Any) -> Any:
    """`np.abs`; a float64 number stays NumPy's, as NumPy returns it."""
    kind = type(x)
    if kind is _float64:
        return abs(x)
    if kind is float:
        return _float64(abs(x))
    return _numpy_abs(x)


def clip(x: Any, low: Any, high: Any) -> Any:
    """`np.clip` of a float64 or float32 number between two Python numbers; keeps x's type."""
    kind = type(x)
    if (kind is _float64 or kind is np.float32) and low < x < high:
        return x
    return _numpy_clip(x, low, high)


def hstack(parts: Any) -> Any:
    """`np.hstack` of float64 numbers, or of vectors."""
    kind = type(parts[0])
    if kind is _float64:
        for part in parts:
            if type(part) is not _float64:
                return _numpy_hstack(parts)
        return _array(parts)
    for part in parts:
        if type(part) is not _ndarray or part.ndim != 1:
            return _numpy_hstack(parts)
    return _concatenate(parts)


def tolerance(
    x: Any,
    bounds: tuple[float, float] = (0.0, 0.0),
    margin: Any = 0.0,
    sigmoid: str = "gaussian",
    value_at_margin: float = _VALUE_AT_MARGIN,
) -> Any:
    """`reward_utils.tolerance` of one number, or of an array that holds one, for the two sigmoids
    in use.

    The square of a number is C's `pow(x, 2)` and that of an array is `x * x`, as in NumPy.
    """
    kind = type(x)
    is_array = False
    if kind is float:
        value = x
    elif kind is _float64:
        value = float(x)
    elif kind is _ndarray and x.shape == (1,) and x.dtype is _FLOAT64:
        value = float(x[0])
        is_array = True
    else:
        return _original_tolerance(x, bounds, margin, sigmoid, value_at_margin)
    kind = type(margin)
    if kind is _float64:
        margin = float(margin)
    elif kind is not float and kind is not int:
        return _original_tolerance(x, bounds, margin, sigmoid, value_at_margin)
    lower, upper = bounds
    if not (lower <= upper and margin >= 0 and value_at_margin == _VALUE_AT_MARGIN):
        return _original_tolerance(x, bounds, margin, sigmoid, value_at_margin)

    if lower <= value <= upper:
        result = 1.0
    elif margin == 0:
        result = 0.0
    elif sigmoid == "long_tail":
        distance = (lower - value if value < lower else value - upper) / margin
        scaled = distance * _LONG_TAIL_SCALE
        try:
            result = 1 / ((scaled * scaled if is_array else scaled**2) + 1)
        except OverflowError:  # where NumPy goes to infinity
            return _original_tolerance(x, bounds, margin, sigmoid, value_at_margin)
    elif sigmoid == "gaussian" and not is_array:
        distance = (lower - value if value < lower else value - upper) / margin
        try:
            # NumPy's exp is not C's: the last bit differs.
            result = float(_exp(-0.5 * (distance * _GAUSSIAN_SCALE) ** 2))
        except OverflowError:
            return _original_tolerance(x, bounds, margin, sigmoid, value_at_margin)
    else:
        return _original_tolerance(x, bounds, margin, sigmoid, value_at_margin)
    return _array([result]) if is_array else result


def long_tail(x: float, lower: float, upper: float, margin: float) -> float:
    """`tolerance` of a Python float between `lower` and `upper`, with the long-tailed sigmoid."""
    if margin < 0 or lower > upper:
        return float(_original_tolerance(x, (lower, upper), margin, "long_tail"))  # raises
    if lower <= x <= upper:
        return 1.0
    if margin == 0:
        return 0.0
    scaled = (lower - x if x < lower else x - upper) / margin * _LONG_TAIL_SCALE
    return 1 / (scaled**2 + 1)


def hamacher_product(a: Any, b: Any) -> Any:
    """`reward_utils.hamacher_product` of two Python floats between 0 and 1.

    The product is at most half of a + b, rounded too, so Meta-World's check that the result is at
    most 1 cannot fail.
    """
    if type(a) is float and type(b) is float and 0.0 <= a <= 1.0 and 0.0 <= b <= 1.0:
        product = a * b
        denominator = a + b - product
        return product / denominator if denominator > 0.0 else 0
    return _original_product(a, b)


def plane_distance(dx: float, dz: float) -> float:
    """`np.linalg.norm` of the vector (dx, dz), through the same dot product."""
    plane = _empty(2)
    plane[0] = dx
    plane[1] = dz
    return _sqrt(plane.dot(plane))


def flat_distance(dx: float, dz: float) -> float:
    """`np.linalg.norm` of (dx, 0, dz): three terms, as a dot product's order may depend on them."""
    flat = _empty(3)
    flat[0] = dx
    flat[1] = 0.0
    flat[2] = dz
    return _sqrt(flat.dot(flat))


class _Quaternion:
    """What `FastRotation.from_matrix` returns: enough of a `Rotation` for `as_quat()`."""

    __slots__ = ("_quaternion",)

    def __init__(self, quaternion: Any) -> None:
        self._quaternion = quaternion

    def as_quat(self) -> Any:
        return self._quaternion


class FastRotation:
    """SciPy's `Rotation.from_matrix(matrix).as_quat()`, in SciPy's order of operations."""

    @staticmethod
    def from_matrix(matrix: Any) -> Any:
        """`matrix` is a float64 [3, 3]. SciPy orthogonalises a matrix whose Gramian is not the
        identity within 1e-12; one that is not clearly within goes to SciPy. It is where two rows
        have length 1 and a right angle, and the third is their cross product: a rotation.
        """
        (a, b, c), (d, e, f), (g, h, i) = matrix.tolist()
        limit = 5e-14
        if not (
            -limit < a * a + b * b + c * c - 1 < limit
            and -limit < d * d + e * e + f * f - 1 < limit
            and -limit < a * d + b * e + c * f < limit
            and -limit < b * f - c * e - g < limit
            and -limit < c * d - a * f - h < limit
            and -limit < a * e - b * d - i < limit
        ):
            return _scipy_from_matrix(matrix)
        trace = a + e + i
        # The largest of (a, e, i, trace), the first of equals, is divided by: the stable choice.
        if trace > a and trace > e and trace > i:
            x, y, z, w = h - f, c - g, d - b, 1 + trace
        elif a >= e and a >= i:
            x, y, z, w = 1 - trace + 2 * a, d + b, g + c, h - f
        elif e >= i:
            x, y, z, w = b + d, 1 - trace + 2 * e, h + f, c - g
        else:
            x, y, z, w = c + g, f + h, 1 - trace + 2 * i, d - b
        length = _sqrt(x * x + y * y + z * z + w * w)
        return _Quaternion(_array((x / length, y / length, z / length, w / length)))


def _stand_in(module: ModuleType, **replaced: Any) -> Any:
    """A module of `module`'s names with some of them replaced; Python reads modules fastest."""
    stand_in = ModuleType(module.__name__)
    vars(stand_in).update(vars(module), **replaced)
    return stand_in


# Stand-ins for the modules of the same name: what Meta-World's functions see as `np` and
# `reward_utils` when the fast engine runs them. The modules themselves stay as they are.
NUMPY = _stand_in(
    np, linalg=_stand_in(np.linalg, norm=norm), abs=absolute, clip=clip, hstack=hstack
)
REWARD_UTILS = _stand_in(reward_utils, hamacher_product=hamacher_product, tolerance=tolerance)


def arithmetic_difference() -> str | None:
    """The first scalar function that differs from NumPy's or SciPy's on this machine, or None.

    500 inputs of each kind: enough to see another order of operations or a fused multiply-add,
    which change the last bit of every fourth result.
    """
    rng = np.random.default_rng(0)
    for _ in range(500):
        vector = rng.normal(size=3)
        number = float(rng.uniform(0, 2))
        rotation = Rotation.from_quat(rng.normal(size=4)).as_matrix()
        if norm(vector) != _numpy_norm(vector):
            return "norm"
        for sigmoid in ("long_tail", "gaussian"):
            for x in (number, np.array([number])):
                mine = tolerance(x, (0.1, 0.2), 0.3, sigmoid)
                if mine != _original_tolerance(x, (0.1, 0.2), 0.3, sigmoid):
                    return "tolerance"
        quaternion = FastRotation.from_matrix(rotation).as_quat()
        if quaternion.tobytes() != _scipy_from_matrix(rotation).as_quat().tobytes():
            return "rotation"
    return None

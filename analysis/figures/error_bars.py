"""Intervals as error bars."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from analysis.statistics import Array, Estimate


def bars(found: Iterable[Estimate]) -> Array:
    """[2, points]: from each value down to the low and up to the high end of its interval.

    0 where there is no interval, and where a value lies beyond an end, as an IQM of skewed scores
    may: matplotlib refuses bars of negative length.
    """
    ends = [(e.value - e.low, e.high - e.value) for e in found]
    return np.nan_to_num(np.reshape(ends, (-1, 2)).T).clip(0)

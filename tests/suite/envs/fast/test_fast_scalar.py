"""Each scalar twin of suite.envs.fast.scalar against the function that it stands for."""

from __future__ import annotations

import numpy as np
import pytest
from metaworld.utils import reward_utils
from scipy.spatial.transform import Rotation

from suite.envs.fast import scalar
from suite.envs.verify_env import exact

RNG = np.random.default_rng(0)
VECTORS = [RNG.normal(size=n) * 10.0 ** RNG.integers(-8, 3) for n in (2, 3, 4, 6) * 300]


def both(mine, theirs, *arguments):
    assert exact(mine(*arguments)) == exact(theirs(*arguments)), arguments


def test_norm():
    for vector in VECTORS:
        both(scalar.norm, np.linalg.norm, vector)
        both(scalar.norm, np.linalg.norm, vector, 2)
        both(scalar.norm, np.linalg.norm, vector[0])
    for other in (VECTORS[3][::2], VECTORS[2].astype(np.float32), np.arange(3), np.eye(2), [3, 4]):
        both(scalar.norm, np.linalg.norm, other)
    both(scalar.norm, np.linalg.norm, VECTORS[0], 1)


def test_plane_distance():
    for vector in VECTORS:
        assert scalar.plane_distance(*vector[:2].tolist()) == np.linalg.norm(vector[:2])


def test_flat_distance():
    for x, z in (vector[:2].tolist() for vector in VECTORS):
        assert scalar.flat_distance(x, z) == np.linalg.norm(np.array([x, 0.0, z]))


@pytest.mark.parametrize(
    "x", [np.float64(-2.5), -2.5, np.float32(-1), VECTORS[0], np.float64("nan")]
)
def test_absolute(x):
    both(scalar.absolute, np.abs, x)


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.array, float])
def test_clip(kind):
    for x in (-3.0, -1.0, -0.0, 0.3, 1.0, 7.0, float("nan")):
        both(scalar.clip, np.clip, kind(x), -1, 1)
        both(scalar.clip, np.clip, kind(x), 0.0, 1.0)


def test_hstack():
    a, b = VECTORS[0], VECTORS[1]
    for parts in ((a[0], b[0]), (a, b), [a, b, a], (a[0], b), (a, 1.0), (np.float32(1), a[0])):
        both(scalar.hstack, np.hstack, parts)


@pytest.mark.parametrize("sigmoid", ["long_tail", "gaussian", "linear"])
@pytest.mark.parametrize("kind", [float, np.float64, np.array, lambda x: np.array([x])])
def test_tolerance(kind, sigmoid):
    numbers = [*RNG.normal(size=500).tolist(), 0.1, 0.2, 0.0, float("nan"), float("inf"), 1e200]
    for x in numbers:
        for margin in (0.0, 0, 1, 0.3, np.float64(0.7), np.float64(1e-9)):
            with np.errstate(all="ignore"):
                both(
                    scalar.tolerance,
                    reward_utils.tolerance,
                    kind(x),
                    (0.1, 0.2),
                    margin,
                    sigmoid,
                )


def test_tolerance_raises_as_meta_worlds_does():
    for arguments in ((0.1, (0.2, 0.1), 0.1), (0.1, (0.1, 0.2), -0.1)):
        with pytest.raises(ValueError, match=r"bound|margin") as theirs:
            reward_utils.tolerance(*arguments)
        for mine in (scalar.tolerance, lambda x, b, m: scalar.long_tail(x, *b, m)):
            with pytest.raises(ValueError, match=str(theirs.value)):
                mine(*arguments)


def test_long_tail():
    for x, margin in RNG.normal(size=(2000, 2)).tolist():
        for width in (0.0, 0.3):
            theirs = reward_utils.tolerance(x, (0.1, 0.1 + width), abs(margin), "long_tail")
            assert exact(scalar.long_tail(x, 0.1, 0.1 + width, abs(margin))) == exact(theirs)
    assert scalar.long_tail(5.0, 0.1, 0.2, 0.0) == 0.0


def test_hamacher_product():
    near_one = 1 - RNG.integers(0, 9, size=(2000, 2)) * 2.0**-53
    for a, b in [*RNG.uniform(size=(2000, 2)), *near_one, (0, 0), (0, 1), (5e-324, 5e-324)]:
        for kind in (float, np.float64, np.float32):
            both(scalar.hamacher_product, reward_utils.hamacher_product, kind(a), float(b))
    both(scalar.hamacher_product, reward_utils.hamacher_product, 1, 0.5)
    for arguments in ((1.1, 0.5), (0.5, -0.1), (0.5, float("nan"))):
        with pytest.raises(ValueError, match="must range"):
            scalar.hamacher_product(*arguments)


def test_stand_ins_leave_their_modules_as_they_are():
    assert scalar.NUMPY.linalg.norm is scalar.norm is not np.linalg.norm
    assert scalar.NUMPY.array is np.array
    assert scalar.REWARD_UTILS.tolerance is not reward_utils.tolerance


def test_rotation():
    for quaternion in RNG.normal(size=(2000, 4)) * RNG.integers(0, 2, size=(2000, 4)):
        if quaternion.any():  # with zeros: half turns, where the choice of divisor has ties
            matrix = Rotation.from_quat(quaternion).as_matrix()
            mine = scalar.FastRotation.from_matrix(matrix).as_quat()
            assert exact(mine) == exact(Rotation.from_matrix(matrix).as_quat())


def test_rotation_chooses_as_scipy_does_among_equals():
    for matrix in np.round(Rotation.create_group("O").as_matrix()):
        mine = scalar.FastRotation.from_matrix(matrix).as_quat()
        assert exact(mine) == exact(Rotation.from_matrix(matrix).as_quat())


def test_rotation_leaves_what_must_be_orthogonalised_to_scipy():
    for noise in (1e-13, 1e-11, 1e-7, 1e-3):
        matrix = Rotation.from_quat([1, 2, 3, 4]).as_matrix() + noise * RNG.normal(size=(3, 3))
        mine = scalar.FastRotation.from_matrix(matrix).as_quat()
        assert exact(mine) == exact(Rotation.from_matrix(matrix).as_quat())
    off = [np.eye(3) + 1e-11 * entry for entry in np.eye(9).reshape(9, 3, 3)]
    turned = Rotation.from_quat([1, 2, 3, 4]).as_matrix()
    off += [np.diag(1 + 1e-4 * np.array(rows)) @ turned for rows in ((1, 0, 1), (0, 1, 1))]
    for matrix in off:  # every entry counts
        mine = scalar.FastRotation.from_matrix(matrix).as_quat()
        assert exact(mine) == exact(Rotation.from_matrix(matrix).as_quat())
    with pytest.raises(ValueError, match="determinant"):
        scalar.FastRotation.from_matrix(-np.eye(3))


def test_the_arithmetic_is_this_machines():
    assert scalar.arithmetic_difference() is None

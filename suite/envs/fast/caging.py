"""The rewards for caging and gripping an object, one coordinate at a time.

Meta-World writes them with arrays of two or three numbers. Here every number goes through the
operations that it goes through there, as a Python float; distances go through the same dot product.
The gripper's effort keeps its type: a float32 action makes a float32 reward there too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from suite.envs.fast.scalar import flat_distance, hamacher_product, long_tail, norm, plane_distance

Vector = NDArray[np.float64]


def _since_the_reset(env: Any, initial: Vector, measure: Callable[[Vector, Vector], Any]) -> Any:
    """`measure(initial, init_tcp)`, kept while neither changes, which they do at a reset."""
    key = (measure, initial.tobytes(), env.init_tcp.tobytes())
    kept = env._measured
    if kept is None or kept[0] != key:
        kept = env._measured = (key, measure(initial, env.init_tcp))
    return kept[1]


def _near_at_first(initial: Vector, init_tcp: Vector) -> tuple[float, float, float]:
    """(y of the object, its distance from the gripper in the xz plane, and in space)."""
    x, y, z = initial.tolist()
    tcp_x, _, tcp_z = init_tcp.tolist()
    return y, plane_distance(x - tcp_x, z - tcp_z), float(norm(initial - init_tcp))


def _flat_at_first(initial: Vector, init_tcp: Vector) -> float:
    x, _, z = initial.tolist()
    tcp_x, _, tcp_z = init_tcp.tolist()
    return flat_distance(x - tcp_x, z - tcp_z)


def _near(
    env: Any, initial: Vector, action: Any, obj_pos: Vector, obj_radius: float,
    pad_success_thresh: float, object_reach_radius: float, xz_thresh: float,
    desired_gripper_effort: float = 1.0, high_density: bool = False, medium_density: bool = False,
) -> Any:  # fmt: skip
    if high_density and medium_density:
        raise ValueError("Can only be either high_density or medium_density")
    initial_y, initial_xz, initial_distance = _since_the_reset(env, initial, _near_at_first)
    x, y, z = obj_pos.tolist()
    thresh = pad_success_thresh
    left_y = env._left_pad_xpos.item(1)
    right_y = env._right_pad_xpos.item(1)
    left_margin = abs(abs(left_y - initial_y) - thresh)
    right_margin = abs(abs(right_y - initial_y) - thresh)
    caging_y = hamacher_product(
        long_tail(abs(left_y - y), obj_radius, thresh, left_margin),
        long_tail(abs(right_y - y), obj_radius, thresh, right_margin),
    )
    tcp = env.tcp_center
    tcp_x, _, tcp_z = tcp.tolist()
    xz = plane_distance(tcp_x - x, tcp_z - z)
    caging = hamacher_product(caging_y, long_tail(xz, 0, xz_thresh, initial_xz - xz_thresh))
    effort = desired_gripper_effort
    gripping = min(max(0, action[-1]), effort) / effort if caging > 0.97 else 0.0
    reward = hamacher_product(caging, gripping)
    if high_density:
        reward = (reward + caging) / 2
    if medium_density:
        margin = abs(initial_distance - object_reach_radius)
        reach = long_tail(float(norm(obj_pos - tcp)), 0, object_reach_radius, margin)
        reward = (reward + reach) / 2
    return reward


def caging_and_gripping(self: Any, *arguments: Any, **named: Any) -> Any:
    """`SawyerXYZEnv._gripper_caging_reward`."""
    assert self.obj_init_pos is not None
    return _near(self, self.obj_init_pos, *arguments, **named)


def _stick(self: Any, *arguments: Any, **named: Any) -> Any:
    return _near(self, self.stick_init_pos, *arguments, **named)


def _between_pads(
    env: Any, obj_pos: Vector, radius: float, grip_margin: float | None, xz_margin: float
) -> tuple[Any, Any]:
    """(caging, gripping in y, or None) of the tasks that measure an object between the pads.

    `init_left_pad` and `init_right_pad` are live views: their margins move with the pads.
    """
    x, y, z = obj_pos.tolist()
    left = env._left_pad_xpos.item(1) - y
    right = y - env._right_pad_xpos.item(1)
    right_margin = abs(abs(y - env.init_right_pad.item(1)) - 0.05)
    left_margin = abs(abs(y - env.init_left_pad.item(1)) - 0.05)
    caging_y = hamacher_product(
        long_tail(right, radius, 0.05, right_margin), long_tail(left, radius, 0.05, left_margin)
    )
    gripping_y = None
    if grip_margin is not None:
        gripping_y = hamacher_product(
            long_tail(right, radius, grip_margin, right_margin),
            long_tail(left, radius, grip_margin, left_margin),
        )
    # Meta-World takes the norm of vectors whose y it has cancelled to zero.
    tcp_x, _, tcp_z = env.tcp_center.tolist()
    margin = _since_the_reset(env, env.obj_init_pos, _flat_at_first) - xz_margin
    caging_xz = long_tail(flat_distance(tcp_x - x, tcp_z - z), 0, xz_margin, margin)
    return hamacher_product(caging_y, caging_xz), gripping_y


# Meta-World's own take further arguments, too, and ignore them.
def _pick_place(self: Any, action: Any, obj_pos: Vector, *_: Any, **__: Any) -> Any:
    caging, _ = _between_pads(self, obj_pos, 0.015, None, 0.005)
    gripping = min(max(0, action[-1]), 1) if caging > 0.97 else 0.0
    return (hamacher_product(caging, gripping) + caging) / 2


def _grip_by_distance(grip_margin: float, xz_margin: float) -> Callable[..., Any]:
    """The reward that grips by the pads' distance: push-back, soccer, sweep and sweep-into."""

    def _gripper_caging_reward(
        self: Any, action: Any, obj_pos: Vector, obj_radius: float, *_: Any, **__: Any
    ) -> Any:
        caging, gripping = _between_pads(
            self, obj_pos, obj_radius, obj_radius + grip_margin, xz_margin
        )
        return (caging + (gripping if caging > 0.95 else 0.0)) / 2

    return _gripper_caging_reward


# The tasks with a caging reward of their own.
CAGING_OF_TASK: dict[str, Callable[..., Any]] = {
    "pick-place-v3": _pick_place,
    "push-back-v3": _grip_by_distance(0.003, 0.01),
    "soccer-v3": _grip_by_distance(0.01, 0.005),
    "stick-push-v3": _stick,
    "sweep-into-v3": _grip_by_distance(0.005, 0.01),
    "sweep-v3": _grip_by_distance(0.01, 0.005),
}

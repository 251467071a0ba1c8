"""The fast reset: the state that Meta-World's `reset` leaves in a freshly built env, bit for bit.

Meta-World's reset runs the task's `reset_model` twice, with `mj_resetData` between the two; each
settles the hand for 250 physics steps. What the first pass leaves for the second is the random
vector it drew and the model positions it moved, neither of which needs physics. What the second
leaves depends on its random vector and on the fixtures the first one moved. So:

- the first pass runs without physics;
- every reset starts from the attributes and model positions of the env as it was built;
- a hand is not settled twice in a row among the same fixtures;
- the state after a reset to a frozen goal is kept, by goal, and restored.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np
from mujoco import mj_getState, mj_resetData, mj_setState, mj_step
from numpy.typing import NDArray

from suite.envs.fast.step import FastStep

KEPT_GOALS = 128  # about 20 kB each; the 50 preset goals fit

_INTEGRATION = int(mujoco.mjtState.mjSTATE_INTEGRATION)
# Poses are kept beside the state, as a reset may leave them behind the state that they belong to:
# Meta-World's first observation of some tasks shows the fixtures before they were moved.
_POSES = (
    "xpos", "xquat", "xmat", "xipos", "ximat", "geom_xpos", "geom_xmat", "site_xpos", "site_xmat"
)  # fmt: skip
# Attributes that belong to the env or its user, not to the episode.
_SETTINGS = frozenset(
    {
        "_action_scale_float32", "_ctrl", "_freeze_rand_vec", "_frozen_goal_used", "_gripper",
        "_hand_xpos", "_just_reset", "_kept", "_last_rand_vec", "_left_claw_xpos",
        "_left_finger_xpos", "_left_pad_id", "_left_pad_xpos", "_measured", "_mocap_pos",
        "_mocap_xpos", "_motion", "_np_random", "_np_random_seed", "_partially_observable",
        "_pristine", "_right_claw_xpos", "_right_finger_xpos", "_right_pad_id", "_right_pad_xpos",
        "_set_task_called", "_settled", "_settling", "_views", "action_space", "data",
        "max_path_length", "model", "mujoco_renderer", "observation_space",
        "reward_function_version", "sawyer_observation_space", "seeded_rand_vec",
    }
)  # fmt: skip


@dataclass(frozen=True)
class _Simulation:
    """Everything of a simulation at a reset that a later step or observation can see."""

    body_pos: NDArray[np.float64]
    site_pos: NDArray[np.float64]
    state: NDArray[np.float64]
    poses: tuple[NDArray[np.float64], ...]


@dataclass(frozen=True)
class _Reset:
    simulation: _Simulation
    attributes: dict[str, Any]
    observation: NDArray[np.float64]


class FastReset(FastStep):
    """Overrides of `reset` and of what the tasks' `reset_model` calls."""

    reward_function_version: str
    # The task's `reset_model` over a MuJoCo that does nothing: see suite.envs.fast.twin.
    _reset_model_without_physics: Callable[[], None]

    def __init__(self, reward_function_version: str = "v2") -> None:
        self._settling = True
        super().__init__(reward_function_version=reward_function_version)
        self._just_reset = False
        self._settled: tuple[tuple[int, bytes], NDArray[np.float64]] | None = None
        self._kept: dict[tuple[Any, ...], _Reset] = {}
        self._frozen_goal_used = False
        self._pristine = (self._simulation(), self._attributes())

    def _attributes(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in _SETTINGS}

    def _set_attributes(self, attributes: dict[str, Any]) -> None:
        own = vars(self)
        for name in own.keys() - attributes.keys() - _SETTINGS:
            del own[name]
        own.update(attributes)

    def _state(self) -> NDArray[np.float64]:
        state = np.empty(mujoco.mj_stateSize(self.model, _INTEGRATION))
        mj_getState(self.model, self.data, state, _INTEGRATION)
        return state

    def _simulation(self) -> _Simulation:
        return _Simulation(
            self.model.body_pos.copy(),
            self.model.site_pos.copy(),
            self._state(),
            tuple(getattr(self.data, name).copy() for name in _POSES),
        )

    def _set_simulation(self, kept: _Simulation) -> None:
        self.model.body_pos[:] = kept.body_pos
        self.model.site_pos[:] = kept.site_pos
        mj_setState(self.model, self.data, kept.state, _INTEGRATION)
        for name, pose in zip(_POSES, kept.poses, strict=True):
            getattr(self.data, name)[:] = pose
        self._current_at = None

    def set_state(self, qpos: NDArray[np.float64], qvel: NDArray[np.float64]) -> None:
        self._current_at = None
        if self._settling:
            super().set_state(qpos, qvel)  # type: ignore[no-untyped-call]

    def _reset_hand(self, steps: int = 50) -> None:
        """Settle the hand: Meta-World's loop repeats constant inputs, so it is one long step.

        From `mj_resetData`, it depends on the fixtures alone. All but the last physics step is kept
        for the fixtures it was taken among; the last leaves every pose as it should be.
        """
        self._frozen_goal_used = False
        self._current_at = None
        if self._settling:
            self.data.mocap_pos[0] = self.hand_init_pos
            self.data.mocap_quat[0] = (1, 0, 1, 0)
            self._ctrl[0], self._ctrl[1] = -1, 1
            fixtures = (steps, self.model.body_pos.tobytes()) if self._just_reset else None
            if fixtures is not None and self._settled is not None and self._settled[0] == fixtures:
                mj_setState(self.model, self.data, self._settled[1], _INTEGRATION)
            else:
                mj_step(self.model, self.data, steps * self.frame_skip - 1)
                if fixtures is not None:
                    self._settled = (fixtures, self._state())
            self._just_reset = False
            mj_step(self.model, self.data, 1)
        self.init_tcp = self.tcp_center

    def _get_state_rand_vec(self) -> NDArray[np.float64]:
        if self._freeze_rand_vec:
            # A task that rejects a random vector asks for another; a frozen one never changes.
            if self._frozen_goal_used:
                raise ValueError(f"{self.task_name} cannot have the goal {self._last_rand_vec}")
            self._frozen_goal_used = True
        drawn: NDArray[np.float64] = super()._get_state_rand_vec()
        return drawn

    def _draw_without_physics(self) -> None:
        """`reset_model` for its random draws and the model positions it moves."""
        simulation, attributes = self._pristine
        self._set_attributes(attributes)
        self._set_simulation(simulation)
        self._settling = False
        try:
            self._reset_model_without_physics()
        finally:
            self._settling = True

    def draw_goal(self) -> NDArray[np.float64]:
        """The random vector that a reset would leave behind, drawn as the reset draws it."""
        for _ in range(2):
            self._draw_without_physics()
        assert self._last_rand_vec is not None
        return self._last_rand_vec

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float64], dict[str, Any]]:
        """Meta-World's `reset`: (observation [39], {}); both arguments are ignored, as there."""
        key: tuple[Any, ...] | None = None
        if self._freeze_rand_vec:
            assert self._last_rand_vec is not None
            key = (
                self._last_rand_vec.tobytes(),
                self.reward_function_version,
                self._partially_observable,
            )
            kept = self._kept.get(key)
            if kept is not None:
                self._set_attributes(kept.attributes)
                self._set_simulation(kept.simulation)
                return kept.observation.copy(), {}
            # The attributes of the task are views of it, and are kept.
            self._last_rand_vec = self._last_rand_vec.copy()

        self._draw_without_physics()
        self.curr_path_length = 0
        mj_resetData(self.model, self.data)
        self._just_reset = True
        observation = self.reset_model()
        self._prev_obs = observation[:18].copy()
        observation[18:36] = self._prev_obs
        self._current_at = None
        if key is not None:
            if len(self._kept) >= KEPT_GOALS:
                del self._kept[next(iter(self._kept))]
            self._kept[key] = _Reset(self._simulation(), self._attributes(), observation.copy())
        return observation, {}

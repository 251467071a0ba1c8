"""The fast step: Meta-World's `SawyerXYZEnv.step`, bit for bit, at about the cost of its physics.

What it leaves out cannot change a result, and each omission says why where it is made.
"""

from __future__ import annotations

from math import sqrt
from typing import Any

import mujoco
import numpy as np
from metaworld.sawyer_xyz_env import SawyerXYZEnv
from mujoco import (
    mj_checkPos,
    mj_checkVel,
    mj_forward,
    mj_kinematics,
    mj_makeConstraint,
    mj_projectConstraint,
    mj_referenceConstraint,
    mj_step,
    mj_step2,
)
from numpy.typing import NDArray

from suite.fast_model import physics_model
from suite.fast_views import LiveViews

_FLOAT32 = np.dtype(np.float32)
_FLOAT64 = np.dtype(np.float64)
_NO_OBJECT = np.zeros(7)  # where a second object's pose would be
_concatenate = np.concatenate
_maximum = np.maximum
_minimum = np.minimum


class FastStep(SawyerXYZEnv):  # type: ignore[misc]
    """Overrides of everything that a step calls outside the task's own reward."""

    def _initialize_simulation(self) -> tuple[mujoco.MjModel, mujoco.MjData]:
        """Load the model without its visual geometry, and look up what every step reads."""
        model = physics_model(self.fullpath)
        data = mujoco.MjData(model)
        self._views = views = LiveViews(data)
        self._ctrl = data.ctrl
        self._mocap_pos = data.mocap_pos[0]
        self._qpos, self._qvel = data.qpos, data.qvel
        self._hand_xpos = views.body("hand").xpos
        self._right_claw_xpos = views.body("rightclaw").xpos
        self._left_claw_xpos = views.body("leftclaw").xpos
        self._right_finger_xpos = views.site("rightEndEffector").xpos
        self._left_finger_xpos = views.site("leftEndEffector").xpos
        self._left_pad_id = views.geom("leftpad_geom").id
        self._right_pad_id = views.geom("rightpad_geom").id
        self._gripper = np.empty(1)
        # The state (qpos, qvel) at which every stage of the physics is current, if any.
        self._current_at: tuple[bytes, bytes] | None = None
        return model, data

    def render(self) -> None:
        raise RuntimeError("the fast engine has no visual geometry: render with engine metaworld")

    # What tasks look up by name.

    def get_body_com(self, body_name: str) -> NDArray[np.float64]:
        return self._views.body(body_name).xpos

    def get_endeff_pos(self) -> NDArray[np.float64]:
        return self._hand_xpos

    def _get_site_pos(self, site_name: str) -> NDArray[np.float64]:
        return self._views.site(site_name).xpos.copy()

    @property
    def tcp_center(self) -> NDArray[np.float64]:
        centre: NDArray[np.float64] = (self._right_finger_xpos + self._left_finger_xpos) / 2.0
        return centre

    def touching_object(self, object_geom_id: int) -> bool:
        """Whether both pads press on the geom: as in Meta-World, the first contact row's force."""
        data = self.data
        if not data.ncon:
            return False
        left: Any = 0
        right: Any = 0
        left_pad, right_pad = self._left_pad_id, self._right_pad_id
        for index, pair in enumerate(data.contact.geom.tolist()):
            if object_geom_id in pair:
                if left_pad in pair:
                    left = left + data.efc_force[data.contact.efc_address[index]]
                if right_pad in pair:
                    right = right + data.efc_force[data.contact.efc_address[index]]
        return left > 0 and right > 0

    # The observation.

    def _get_curr_obs_combined_no_goal(self) -> NDArray[np.float64]:
        """Hand, gripper opening, objects, zeros: [18], as `SawyerXYZEnv` lays them out."""
        apart = self._right_claw_xpos - self._left_claw_xpos
        opening = sqrt(apart.dot(apart)) / 0.1
        self._gripper[0] = opening if opening < 1.0 else min(opening, 1.0)
        positions = self._get_pos_objects()
        quaternions = self._get_quat_objects()
        if len(positions) == 3:
            return _concatenate(
                (self._hand_xpos, self._gripper, positions, quaternions, _NO_OBJECT)
            )
        return _concatenate(
            (
                self._hand_xpos,
                self._gripper,
                positions[:3],
                quaternions[:4],
                positions[3:],
                quaternions[4:],
            )
        )

    def _get_obs(self) -> NDArray[np.float64]:
        goal = self._target_pos
        assert isinstance(goal, np.ndarray) and goal.ndim == 1
        if self._partially_observable:
            goal = np.zeros_like(goal)
        current = self._get_curr_obs_combined_no_goal()
        observation = _concatenate((current, self._prev_obs, goal))
        self._prev_obs = current
        return observation

    # The step.

    def _move_mocap(self, action: Any) -> None:
        """`set_xyz_action`. The mocap quaternion keeps the value that the reset gave it."""
        delta = action[:3]
        x, y, z = delta.tolist()
        if not (-1 <= x <= 1 and -1 <= y <= 1 and -1 <= z <= 1):
            delta = np.clip(delta, -1, 1)
        # In the action's own precision: Meta-World multiplies float32 by a Python float.
        dx, dy, dz = (delta * self.action_scale).tolist()
        position = self._mocap_pos
        x, y, z = position.tolist()
        low_x, low_y, low_z = self.mocap_low.tolist()
        high_x, high_y, high_z = self.mocap_high.tolist()
        x += dx
        y += dy
        z += dz
        position[0] = low_x if x < low_x else high_x if x > high_x else x
        position[1] = low_y if y < low_y else high_y if y > high_y else y
        position[2] = low_z if z < low_z else high_z if z > high_z else z

    def _simulate(self) -> None:
        """Five `mj_step` and one `mj_forward`.

        The `mj_forward` that ended the previous step left position and velocity stages that are
        still right for the first of the five: only the mocap body has moved since, and it has no
        degree of freedom, mass or collision of its own. What it does enter, its own pose and the
        weld's constraint rows, is computed again.
        """
        model, data = self.model, self.data
        if self._current_at is None:
            mj_step(model, data, 5)
        else:
            # Both may reset a state that went astray; an edited state is not current either.
            mj_checkPos(model, data)
            mj_checkVel(model, data)
            if self._current_at == (self._qpos.tobytes(), self._qvel.tobytes()):
                mj_kinematics(model, data)
                mj_makeConstraint(model, data)
                mj_projectConstraint(model, data)
                mj_referenceConstraint(model, data)
                mj_step2(model, data)
                mj_step(model, data, 4)
            else:
                mj_step(model, data, 5)
        # Meta-World also calls mj_rnePostConstraint: it only writes accelerations and forces of
        # bodies, which nothing reads. It puts the target's site in place: mj_forward moves every
        # site back before anything reads it.
        mj_forward(model, data)
        self._current_at = (self._qpos.tobytes(), self._qvel.tobytes())

    def step(self, action: Any) -> tuple[NDArray[np.float64], Any, bool, bool, dict[str, Any]]:
        """Meta-World's `step`: (observation [39], reward, False, truncated, info)."""
        if not self._set_task_called:
            raise RuntimeError("You must call env.set_task before using env.step")
        assert len(action) == 4, f"Actions should be size 4, got {len(action)}"
        if type(action) is np.ndarray and (action.dtype is _FLOAT32 or action.dtype is _FLOAT64):
            self._move_mocap(action)
        else:
            self.set_xyz_action(action[:3])
        if self.curr_path_length >= self.max_path_length:
            raise ValueError("You must reset the env manually once truncate==True")
        self._ctrl[0] = action[3]
        self._ctrl[1] = -action[3]
        self._simulate()
        self.curr_path_length += 1

        observation = self._get_obs()
        bounds = self.sawyer_observation_space
        _maximum(observation, bounds.low, observation)
        _minimum(observation, bounds.high, observation)
        self._last_stable_obs = observation
        reward, info = self.evaluate_state(observation, action)
        truncated = self.curr_path_length == self.max_path_length
        return observation.copy(), reward, False, truncated, info

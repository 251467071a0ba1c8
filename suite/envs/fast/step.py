"""The fast step: Meta-World's `SawyerXYZEnv.step`, bit for bit, at about the cost of its physics.

What it leaves out cannot change a result, and each omission says why where it is made.
"""

from __future__ import annotations

from math import sqrt
from struct import Struct
from typing import Any

import mujoco
import numpy as np
from metaworld.sawyer_xyz_env import SawyerXYZEnv
from mujoco import (
    mj_forward,
    mj_makeConstraint,
    mj_referenceConstraint,
    mj_step,
    mj_step2,
)
from numpy.typing import NDArray

from suite.envs.fast.caging import caging_and_gripping
from suite.envs.fast.model import physics_model
from suite.envs.fast.views import LiveViews

_FLOAT32 = np.dtype(np.float32)
_FLOAT64 = np.dtype(np.float64)
_NO_OBJECT = np.zeros(7)  # where a second object's pose would be
_concatenate = np.concatenate
_maximum = np.maximum
_as_float32 = Struct("3f").pack
_three_float32 = Struct("3f").unpack
_minimum = np.minimum


def _position_and_velocity(data: mujoco.MjData) -> NDArray[np.float64]:
    """One live view of qpos and qvel, which MuJoCo keeps one behind the other, up to padding."""
    start, end = data.qpos.ctypes.data, data.qvel.ctypes.data + data.qvel.nbytes
    assert 0 <= data.qvel.ctypes.data - start - data.qpos.nbytes < 64
    return np.lib.stride_tricks.as_strided(data.qpos, ((end - start) // 8,), (8,))


class FastStep(SawyerXYZEnv):
    """Overrides of everything that a step calls outside the task's own reward."""

    def _initialize_simulation(self) -> tuple[mujoco.MjModel, mujoco.MjData]:
        """Load the model without its visual geometry, and look up what every step reads."""
        model = physics_model(self.fullpath)
        data = mujoco.MjData(model)
        self._views = views = LiveViews(data)
        self._ctrl = data.ctrl
        self._mocap_pos = data.mocap_pos[0]
        self._action_scale_float32 = float(np.float32(self.action_scale))
        self._mocap_xpos = views.body("mocap").xpos
        self._motion = _position_and_velocity(data)
        self._hand_xpos = views.body("hand").xpos
        self._right_claw_xpos = views.body("rightclaw").xpos
        self._left_claw_xpos = views.body("leftclaw").xpos
        self._right_finger_xpos = views.site("rightEndEffector").xpos
        self._left_finger_xpos = views.site("leftEndEffector").xpos
        self._left_pad_xpos = views.body("leftpad").xpos
        self._right_pad_xpos = views.body("rightpad").xpos
        self._left_pad_id = views.geom("leftpad_geom").id
        self._right_pad_id = views.geom("rightpad_geom").id
        self._gripper = np.empty(1)
        # While a step evaluates its reward, the centre that it reads several times.
        self._tcp_center: NDArray[np.float64] | None = None
        # What the caging reward measured of the positions at the reset.
        self._measured: tuple[Any, Any] | None = None
        # The state at which every stage of the physics is current, if any.
        self._current_at: bytes | None = None
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
        if self._tcp_center is not None:
            return self._tcp_center
        right_x, right_y, right_z = self._right_finger_xpos.tolist()
        left_x, left_y, left_z = self._left_finger_xpos.tolist()
        return np.array(
            ((right_x + left_x) / 2.0, (right_y + left_y) / 2.0, (right_z + left_z) / 2.0)
        )

    def touching_object(self, object_geom_id: int) -> bool:
        """Whether both pads press on the geom, by the force of each contact's first row."""
        data = self.data
        if data.ncon < 2:  # one for each pad
            return False
        contact = data.contact
        left, right = [], []
        for index, pair in enumerate(contact.geom.tolist()):
            if object_geom_id in pair:
                if self._left_pad_id in pair:
                    left.append(index)
                if self._right_pad_id in pair:
                    right.append(index)
        if not (left and right):
            return False
        rows, forces = contact.efc_address, data.efc_force
        pressed = (sum(forces[rows[index]] for index in pad) for pad in (left, right))
        return all(force > 0 for force in pressed)

    def _get_id_main_object(self) -> int:
        return self._views.geom("objGeom").id

    _gripper_caging_reward = caging_and_gripping

    # The observation.

    def _observed(self) -> tuple[NDArray[np.float64], ...]:
        """The parts of an observation's first 18 numbers: hand, gripper opening, objects, zeros."""
        apart = self._right_claw_xpos - self._left_claw_xpos
        opening = sqrt(apart.dot(apart)) / 0.1
        self._gripper[0] = opening if opening < 1.0 else min(opening, 1.0)
        where = self._get_pos_objects()
        turned = self._get_quat_objects()
        if len(where) == 3:
            return self._hand_xpos, self._gripper, where, turned, _NO_OBJECT
        return self._hand_xpos, self._gripper, where[:3], turned[:4], where[3:], turned[4:]

    def _get_curr_obs_combined_no_goal(self) -> NDArray[np.float64]:
        return _concatenate(self._observed())

    def _get_obs(self) -> NDArray[np.float64]:
        goal = self._target_pos
        assert isinstance(goal, np.ndarray)
        assert goal.ndim == 1
        if self._partially_observable:
            goal = np.zeros_like(goal)
        observation = _concatenate((*self._observed(), self._prev_obs, goal))
        self._prev_obs = observation[:18]
        return observation

    # The step.

    def _move(self, action: NDArray[Any]) -> None:
        """`set_xyz_action`, and the gripper's control.

        The mocap quaternion keeps the value that the reset gave it. Meta-World scales an action in
        the action's own precision: a product of two float32 is exact in a float64, so rounding it
        once more gives the float32 product.
        """
        x, y, z, effort = action.tolist()
        if not (-1 <= x <= 1 and -1 <= y <= 1 and -1 <= z <= 1):
            x, y, z = np.clip(action[:3], -1, 1).tolist()
        if action.dtype is _FLOAT32:
            scale = self._action_scale_float32
            x, y, z = _three_float32(_as_float32(x * scale, y * scale, z * scale))
        else:
            scale = self.action_scale
            x, y, z = x * scale, y * scale, z * scale
        position = self._mocap_pos
        from_x, from_y, from_z = position.tolist()
        low_x, low_y, low_z = self.mocap_low.tolist()
        high_x, high_y, high_z = self.mocap_high.tolist()
        x += from_x
        y += from_y
        z += from_z
        position[0] = low_x if x < low_x else high_x if x > high_x else x
        position[1] = low_y if y < low_y else high_y if y > high_y else y
        position[2] = low_z if z < low_z else high_z if z > high_z else z
        control = self._ctrl
        control[0] = effort
        control[1] = -effort

    def _simulate(self) -> None:
        """Five `mj_step` and one `mj_forward`.

        The `mj_forward` that ended the previous step left position and velocity stages that are
        still right for the first of the five: only the mocap body has moved since, and it has no
        degree of freedom, mass or collision of its own. What it does enter is the weld's constraint
        rows; they, their reference accelerations and all that follows are computed again.
        """
        model, data, motion = self.model, self.data, self._motion
        if (
            self._current_at == motion.tobytes()  # nobody has edited the state
            # mj_step first resets a state with a NaN or a number above 1e10: leave those to it.
            and motion.dot(motion) < 1e19
        ):
            self._mocap_xpos[:] = self._mocap_pos
            mj_makeConstraint(model, data)
            mj_referenceConstraint(model, data)
            mj_step2(model, data)
            mj_step(model, data, 4)
        else:
            mj_step(model, data, 5)
        # Meta-World also calls mj_rnePostConstraint: it only writes accelerations and forces of
        # bodies, which nothing reads. It puts the target's site in place: mj_forward moves every
        # site back before anything reads it.
        mj_forward(model, data)
        self._current_at = motion.tobytes()

    def step(self, action: Any) -> tuple[NDArray[np.float64], Any, bool, bool, dict[str, Any]]:
        """Meta-World's `step`: (observation [39], reward, False, truncated, info)."""
        if not self._set_task_called:
            raise RuntimeError("You must call env.set_task before using env.step")
        assert len(action) == 4, f"Actions should be size 4, got {len(action)}"
        if type(action) is np.ndarray and (action.dtype is _FLOAT32 or action.dtype is _FLOAT64):
            self._move(action)
        else:
            self.set_xyz_action(action[:3])
            self._ctrl[:] = (action[3], -action[3])
        if self.curr_path_length >= self.max_path_length:
            raise ValueError("You must reset the env manually once truncate==True")
        self._simulate()
        self.curr_path_length += 1

        observation = self._get_obs()
        bounds = self.sawyer_observation_space
        observation = _maximum(observation, bounds.low)
        _minimum(observation, bounds.high, out=observation)
        self._last_stable_obs = observation  # which nothing else reads
        self._tcp_center = self.tcp_center
        reward, info = self.evaluate_state(observation, action)
        self._tcp_center = None
        truncated = self.curr_path_length == self.max_path_length
        return observation, reward, False, truncated, info

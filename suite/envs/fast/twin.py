"""Make, at run time, the fast twin of a Meta-World task class.

The twin is a subclass of the task's own class. Its rewards, observations and resets are the task's
own functions, compiled code and all, rebuilt over other globals: `np`, `reward_utils` and
`Rotation` are the stand-ins of `scalar`. In the functions that a step calls, `self.data` is read as
`self._views`, the looked-up arrays of `views`. Meta-World's own classes and modules are left as
they are.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache
from types import CellType, FunctionType, SimpleNamespace
from typing import Any, cast

import mujoco
from metaworld.env_dict import ALL_V3_ENVIRONMENTS
from metaworld.sawyer_xyz_env import SawyerXYZEnv

from suite.envs.fast import scalar
from suite.envs.fast.caging import CAGING_OF_TASK
from suite.envs.fast.reset import FastReset

# Called in a step: they only read the simulation, through names.
STEP_FUNCTIONS = frozenset(
    {
        "_get_id_main_object",
        "_get_pos_objects",
        "_get_quat_objects",
        "_reward_grab_effort",
        "_reward_pos",
        "_reward_quat",
        "_stick_is_inserted",
        "compute_reward",
        "evaluate_state",
    }
)
# Called in a reset: they write to the simulation, so they see it as it is.
RESET_FUNCTIONS = frozenset(
    {
        "_reset_hand",
        "_set_hammer_xyz",
        "_set_obj_xyz",
        "_set_stick_xyz",
        "adjust_initObjPos",
        "fix_extreme_obj_pos",
        "reset_model",
    }
)


def _skip(*arguments: Any) -> None:
    """Stands for a MuJoCo function in the pass that needs no physics."""


_MUJOCO_WITHOUT_PHYSICS = SimpleNamespace(**{**vars(mujoco), "mj_forward": _skip, "mj_step": _skip})


def undecorated(function: Callable[..., Any]) -> FunctionType:
    """The task's function under Meta-World's `assert_task_is_set`, which `step` has checked."""
    cells = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
    wrapped = cells["func"].cell_contents if "func" in cells else function
    return cast(FunctionType, wrapped)


def _rebuilt(function: FunctionType, namespace: dict[str, Any], owner: CellType) -> FunctionType:
    """`function` over the globals `namespace`; its `super()` starts from the class in `owner`."""
    code = function.__code__
    if function.__name__ in STEP_FUNCTIONS:
        # One task asks the model for its object's id.
        read = ("data", "model") if function.__name__ == "_get_id_main_object" else ("data",)
        names = tuple("_views" if name in read else name for name in code.co_names)
        code = code.replace(co_names=names)
    closure = tuple(
        owner if name == "__class__" else cell
        for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True)
    )
    twin = FunctionType(code, namespace, function.__name__, function.__defaults__, closure)
    twin.__kwdefaults__ = function.__kwdefaults__
    return twin


def _globals_of(task_class: type) -> dict[str, Any]:
    namespace = dict(vars(sys.modules[task_class.__module__]))
    namespace["np"] = scalar.NUMPY
    namespace["reward_utils"] = scalar.REWARD_UTILS
    for name, stand_in in (
        ("Rotation", scalar.FastRotation),
        ("tolerance", scalar.tolerance),
    ):
        if name in namespace:
            namespace[name] = stand_in
    return namespace


@cache
def fast_class(task: str) -> type[SawyerXYZEnv]:
    """The fast twin of Meta-World's class for `task`, made once a process."""
    original = ALL_V3_ENVIRONMENTS[task]
    owner = CellType()
    members: dict[str, Any] = {"__module__": __name__, "__qualname__": original.__qualname__}
    namespace = _globals_of(original)
    without_physics = {**namespace, "mujoco": _MUJOCO_WITHOUT_PHYSICS}
    for name in (STEP_FUNCTIONS | RESET_FUNCTIONS) & vars(original).keys():
        member = vars(original)[name]
        if isinstance(member, staticmethod):
            members[name] = staticmethod(_rebuilt(undecorated(member.__func__), namespace, owner))
            continue
        function = undecorated(member)
        members[name] = _rebuilt(function, namespace, owner)
        if name == "reset_model":
            members["_reset_model_without_physics"] = _rebuilt(function, without_physics, owner)
    if task in CAGING_OF_TASK:
        members["_gripper_caging_reward"] = CAGING_OF_TASK[task]
    twin = type(original.__name__, (FastReset, original), members)
    owner.cell_contents = twin
    # Static methods are called as `ClassName.method`: that name is the twin here.
    for member in members.values():
        function = getattr(member, "__func__", member)
        if isinstance(function, FunctionType) and original.__name__ in function.__globals__:
            function.__globals__[original.__name__] = twin
    return twin

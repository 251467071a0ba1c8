"""`film`: one episode on each task, as a run's policy is evaluated, as animated pictures.

<run>/film/<task>.webp   about forty frames of one episode on the first evaluation goal
           film.json     success, return and frames of each of them

Drawn off-screen from Meta-World's own models (the fast engine has none of what can be seen), which
step to the bit alike. A look at the policy, not a measurement: that is what the rows are.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from algorithms.algorithm import Algorithm
from suite.config import RunConfig
from suite.envs import OBSERVATION_SIZE
from suite.envs.meta_world import make_env
from suite.envs.tasks import Goal
from suite.messages import Failure, UserError, warn
from suite.runs.files import write_atomically
from suite.runs.finished import done
from suite.runs.rebuild import stored_config, stored_name, trained
from suite.training.build import goals_of

Picture = NDArray[np.uint8]
"""[SIZE, SIZE, 3]."""

BACKENDS = ("egl", "osmesa")
FRAMES = 40
"""Frames of an episode, evenly spaced."""
SIZE = 224
"""Pixels of an edge."""
MILLISECONDS = 100
"""What a frame is shown for."""
CAMERA = {"distance": 1.35, "azimuth": 140.0, "elevation": -25.0}
LOOK_AT = (0.0, 0.65, 0.13)
"""Where the camera looks, metres in the env's frame: over the middle of the table."""


def film_all(folders: Sequence[str]) -> int:
    """Films every run named; returns the exit status. Raises UserError before any work."""
    # Read once, when MuJoCo is loaded.
    os.environ["MUJOCO_GL"] = backend()
    for folder in folders:
        made = film(Path(folder))
        print(f"{made} films: {Path(folder) / 'film'}")
    return 0


def backend() -> str:
    """The off-screen renderer that works here. Raises UserError where none does."""
    asked = os.environ.get("MUJOCO_GL", "")
    model = "mujoco.MjModel.from_xml_string('<mujoco/>')"
    draw = f"import mujoco; r = mujoco.Renderer({model}, 8, 8); r.render(); r.close()"
    for name in (asked,) if asked else BACKENDS:
        # In a process of its own: a library that fails to load could not be unloaded again.
        environment = os.environ | {"MUJOCO_GL": name}
        tried = subprocess.run([sys.executable, "-c", draw], env=environment, capture_output=True)
        if tried.returncode == 0:
            return name
    raise UserError(
        f"film: no off-screen renderer works here (MUJOCO_GL={asked or ' or '.join(BACKENDS)}); "
        "on Debian: apt install libegl1 libgl1-mesa-dri, or libosmesa6"
    )


def film(folder: Path) -> int:
    """Films one run, each task once; returns the number of tasks."""
    config, run = stored_config(folder), stored_name(folder)
    try:
        done(folder, run)
    except (ValueError, Failure) as error:
        warn(f"{error}; its weights, which are filmed, are whole or refused")
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    algorithm = trained(config, folder)
    goals = goals_of(config, "metaworld")
    first = [of_task[0] for of_task in goals.evaluation(1)]
    (folder / "film").mkdir(exist_ok=True)
    entries = {}
    for index, name in enumerate(config.tasks):
        pictures, entry = episode(config, algorithm, index, first[index])
        write_atomically(folder / "film" / f"{name}.webp", webp(pictures))
        entries[name] = entry
        text = json.dumps({"run": run, "tasks": entries}, indent=1) + "\n"
        write_atomically(folder / "film" / "film.json", text.encode())
    return len(entries)


def played(
    env: Any, config: RunConfig, algorithm: Algorithm, index: int, goal: Goal
) -> Iterator[tuple[float, bool]]:
    """One episode of the policy's mode on one goal of the task of that index: before it and after
    each step, the sum of unscaled rewards and whether any step so far was a success.
    """
    observation = goal.reset(env)
    total, success = 0.0, False
    yield total, success
    for _ in range(config.task.horizon):
        # The policy acts for all tasks at once; only this one's row is real.
        inputs = torch.zeros(len(config.tasks), 1, OBSERVATION_SIZE)
        inputs[index, 0] = torch.from_numpy(observation).float()
        action = algorithm.act(inputs, explore=False).actions[index, 0].cpu().numpy()
        observation, reward, _, _, info = env.step(action)
        total, success = total + float(reward), success or bool(info["success"])
        yield total, success


def episode(
    config: RunConfig, algorithm: Algorithm, index: int, goal: Goal
) -> tuple[list[Picture], dict[str, Any]]:
    """The frames of one episode, and how it went."""
    spacing = max(1, config.task.horizon // FRAMES)
    env = make_env(config.tasks[index], config.task.reward_version, "metaworld")
    pictures = []
    # The drawing context must not wait for the interpreter's end.
    with contextlib.closing(Camera(env)) as camera:
        for step, (total, success) in enumerate(played(env, config, algorithm, index, goal)):
            went = {"success": success, "return": total}
            if step % spacing == 0:
                pictures.append(camera.picture())
    return pictures, {**went, "frames": len(pictures)}


class Camera:
    """Draws an env's present state."""

    def __init__(self, env: Any) -> None:
        import mujoco

        self.env = env
        self.renderer = mujoco.Renderer(env.model, SIZE, SIZE)
        self.view = mujoco.MjvCamera()
        self.view.lookat[:] = LOOK_AT
        for name, value in CAMERA.items():
            setattr(self.view, name, value)
        # Half of the time, and nothing that helps to see what the arm does.
        for flag in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION):
            self.renderer.scene.flags[flag] = 0

    def picture(self) -> Picture:
        """What the camera sees now."""
        self.renderer.update_scene(self.env.data, camera=self.view)
        seen: Picture = self.renderer.render()
        return seen

    def close(self) -> None:
        """Frees the drawing context."""
        self.renderer.close()


def webp(pictures: Sequence[Picture]) -> bytes:
    """Frames as one animated WebP that repeats; the last one stands for a second."""
    first, *others = (Image.fromarray(picture) for picture in pictures)
    durations = [MILLISECONDS] * len(others) + [1000]
    buffer = io.BytesIO()
    first.save(
        buffer, "WEBP", save_all=True, append_images=others, duration=durations, loop=0, quality=50
    )
    return buffer.getvalue()

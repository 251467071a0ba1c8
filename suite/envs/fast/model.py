"""Meta-World's MuJoCo models without the geometry that can never touch anything.

Two geoms can collide only if the contact type bits of one meet the affinity bits of the other. The
arm's visual meshes meet nothing, have no mass (Meta-World gives every body its inertia) and yet
cost at each step: their poses are computed and a table with an entry for each of their triangles is
cleared at every collision pass. Unnamed geoms of this kind are dropped before the model is
compiled, and with them meshes, textures, materials, lights and cameras, which only drawing needs.

So are a few named parts that Meta-World never looks up, and then the bodies of no mass that carry
nothing: a step computes a pose for each, and to the sums over bodies they add zeros. Everything
else in the model has the same bits.
"""

from __future__ import annotations

import copy
import hashlib
from functools import cache
from importlib.metadata import version
from pathlib import Path

import mujoco
import numpy as np

from suite.envs.cache import load, store

# Parts of the arm, in every model, whose names no source file of Meta-World's mentions.
UNREAD_GEOMS = frozenset({"rail"})
UNREAD_SITES = frozenset({"armsite", "basesite", "endEffector", "headsite"})


def _is_empty(body: mujoco.MjsBody) -> bool:
    """Whether a body of an `MjSpec` weighs nothing, moves nothing and carries nothing."""
    parts = (body.bodies, body.geoms, body.joints, body.sites, body.cameras, body.lights)
    return body.explicitinertial and body.mass == 0 and not body.mocap and not any(parts)


def compile_model(path: str) -> mujoco.MjModel:
    """Compile the XML file at `path` without what no step or reset needs."""
    spec = mujoco.MjSpec.from_file(path)
    bits = [(geom.contype, geom.conaffinity) for geom in spec.geoms]
    meshes_in_use = set()
    for index, geom in enumerate(list(spec.geoms)):
        kind, affinity = bits[index]
        can_collide = any(
            kind & other_affinity or other_kind & affinity
            for other, (other_kind, other_affinity) in enumerate(bits)
            if other != index
        )
        if can_collide or (geom.name and geom.name not in UNREAD_GEOMS):  # rewards look names up
            geom.material = ""
            meshes_in_use.add(geom.meshname)
        else:
            geom.delete()
    for site in list(spec.sites):
        if site.name in UNREAD_SITES:
            site.delete()
        else:
            site.material = ""
    unseen = [*spec.textures, *spec.materials, *spec.cameras, *spec.lights]
    unseen += [mesh for mesh in spec.meshes if mesh.name not in meshes_in_use]
    for part in unseen:
        part.delete()
    for body in reversed(list(spec.bodies)):  # children before their parents
        if _is_empty(body):
            spec.detach_body(body)
    return spec.compile()


@cache
def _assets(folder: Path) -> str:
    """A digest of the names, sizes and times of Meta-World's model files."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        found = path.stat()
        digest.update(f"{path.relative_to(folder)} {found.st_size} {found.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _loaded(content: bytes) -> mujoco.MjModel:
    return mujoco.MjModel.from_binary_path("model.mjb", {"model.mjb": content})


@cache
def _compiled(path: str) -> mujoco.MjModel:
    """The compiled model, from the cache if it is there."""
    assets = Path(path).parents[1]
    key = [version("mujoco"), "model-2", Path(path).name, _assets(assets)]
    found = load("models", key, _loaded)
    if found is not None:
        return found
    model = compile_model(path)
    buffer = np.empty(mujoco.mj_sizeModel(model), np.uint8)
    mujoco.mj_saveModel(model, None, buffer)
    store("models", key, buffer.tobytes())
    return model


def physics_model(path: str) -> mujoco.MjModel:
    """The model of the XML file at `path`, without what nothing reads; the caller's own copy.

    Loaded once a process, in about 4 ms, or compiled the first time, in 20 instead of 130; a copy
    takes 1 ms.
    """
    model = copy.copy(_compiled(path))
    # Else every collision pass clears 25 kB of flags that show a viewer which bounding volumes met.
    model.vis.global_.bvactive = 0
    return model

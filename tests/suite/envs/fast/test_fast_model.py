"""The fast engine's models against MuJoCo's own of the same files: same contacts, same bits."""

from __future__ import annotations

from pathlib import Path

import metaworld
import mujoco
import numpy as np
import pytest
from metaworld.env_dict import ALL_V3_ENVIRONMENTS

from suite.envs.fast.model import UNREAD_GEOMS, UNREAD_SITES, compile_model
from suite.envs.meta_world import make_env
from suite.envs.verify_env import exact

PATHS = sorted({env.model_name.fget(None) for env in ALL_V3_ENVIRONMENTS.values()})
SOURCES = "".join(p.read_text() for p in Path(metaworld.__file__).parent.rglob("*.py"))
CONTACT = (
    "dist", "pos", "frame", "friction", "solref", "solimp", "solreffriction", "dim", "mu",
    "includemargin", "efc_address",
)  # fmt: skip


def contacts(model, data):
    found = {name: getattr(data.contact, name).tobytes() for name in CONTACT}
    bodies = model.geom_bodyid[data.contact.geom].ravel()
    found["bodies"] = [model.body(body).name for body in bodies]
    # Of the same geoms, too: their ids differ, and the bodies', as some are left out.
    found["sizes"] = model.geom_size[data.contact.geom].tolist()
    found["forces"] = data.efc_force.tobytes()
    found["accelerations"] = data.qacc.tobytes()
    return found


@pytest.fixture(scope="module", params=PATHS, ids=lambda path: path.rsplit("_", 1)[-1])
def models(request):
    """MuJoCo's own model of a file, and ours; they take a second to build."""
    return mujoco.MjModel.from_xml_path(request.param), compile_model(request.param)


def test_the_models_contacts_are_mujocos_own(models):
    generator = np.random.default_rng(0)
    seen = 0
    for _ in range(120):
        states = [mujoco.MjData(model) for model in models]
        scale = generator.choice([0.05, 0.3, 1.0])
        moved = states[0].qpos + scale * generator.normal(size=models[0].nq)
        for model, data in zip(models, states, strict=True):
            data.qpos[:] = moved
            mujoco.mj_forward(model, data)
        original, ours = (contacts(m, d) for m, d in zip(models, states, strict=True))
        seen += states[0].ncon
        assert ours == original
    assert seen > 100


def names(model, kind):
    return [getattr(model, kind)(i).name for i in range(getattr(model, f"n{kind}"))]


def kept_rows(theirs, mine, kind):
    """Which of Meta-World's bodies or sites are left, all named; in the same order."""
    left = set(names(mine, kind))
    rows = [name in left for name in names(theirs, kind)]
    assert [name for name in names(theirs, kind) if name in left] == names(mine, kind)
    return np.array(rows)


@pytest.mark.parametrize("task", ["reach-v3", "hammer-v3", "box-close-v3", "stick-pull-v3"])
def test_what_is_left_of_the_model_has_the_same_bits(task):
    theirs = make_env(task, engine="metaworld").model
    mine = make_env(task).model
    bodies, sites = kept_rows(theirs, mine, "body"), kept_rows(theirs, mine, "site")
    new_id = np.cumsum(bodies) - 1  # of a body of Meta-World's
    drawn = ("geom_", "mesh_", "mat_", "tex_", "cam_", "light_", "name_", "bvh_", "body_bvh")
    counts = ("body_geom", "body_con", "names", "ngeom", "nmesh", "nmat", "ntex", "ncam", "nlight",
              "nbuffer", "nbvh", "nnames", "npath", "nbody", "nsite")  # fmt: skip
    body_ids = ("_bodyid", "_parentid", "_rootid", "_weldid")
    compared = 0
    for field in dir(theirs):
        value = getattr(theirs, field)
        if field.startswith(drawn + counts) or not isinstance(value, (np.ndarray, int, float)):
            continue
        if field.startswith("_") or field in ("text_data", "paths", "signature", "nB"):
            continue
        if field.startswith("body_"):
            value = value[bodies]
        elif field.startswith("site_"):
            value = value[sites]
        elif field in ("eq_obj1id", "eq_obj2id"):  # the weld's
            value = np.where(theirs.eq_objtype == mujoco.mjtObj.mjOBJ_BODY, new_id[value], value)
            value = value.astype(np.int32)
        if field.endswith(body_ids) and field != "dof_parentid":
            value = new_id[value].astype(np.int32)
        assert exact(getattr(mine, field)) == exact(value), field
        compared += 1
    assert compared > 150
    assert mine.stat.meaninertia == theirs.stat.meaninertia
    for option in ("timestep", "tolerance", "iterations", "solver", "cone", "disableflags"):
        assert getattr(mine.opt, option) == getattr(theirs.opt, option)
    # What is left of the geoms, in the same order.
    bits = np.stack([theirs.geom_contype, theirs.geom_conaffinity])
    meets = (bits[0][:, None] & bits[1]) | (bits[1][:, None] & bits[0])
    np.fill_diagonal(meets, 0)
    read = np.array([bool(name) and name not in UNREAD_GEOMS for name in names(theirs, "geom")])
    kept = meets.any(0) | read
    assert mine.ngeom == kept.sum() < theirs.ngeom
    assert np.array_equal(mine.geom_bodyid, new_id[theirs.geom_bodyid[kept]])
    for field in ("geom_pos", "geom_quat", "geom_size", "geom_friction", "geom_solref",
                  "geom_margin", "geom_type", "geom_rbound"):  # fmt: skip
        assert exact(getattr(mine, field)) == exact(getattr(theirs, field)[kept]), field


def test_bodies_left_out_weigh_nothing_and_are_never_read(models):
    original, ours = models
    left = ~kept_rows(original, ours, "body")
    gone = {name for name, out in zip(names(original, "body"), left, strict=True) if out}
    assert gone == {"head_camera", "right_hand_camera", "right_wrist"}
    assert not original.body_mass[left].any()
    assert not original.body_inertia[left].any()
    assert not original.body_jntnum[left].any()
    for name in (*gone, *UNREAD_SITES, *UNREAD_GEOMS):
        assert name not in ours.names.decode().split("\0")
        assert f'"{name}"' not in SOURCES
        assert f"'{name}'" not in SOURCES

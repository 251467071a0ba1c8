"""The fast engine's models against MuJoCo's own of the same files: same contacts, same bits."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest
from metaworld.env_dict import ALL_V3_ENVIRONMENTS

from suite.fast_model import compile_model

PATHS = sorted({env.model_name.fget(None) for env in ALL_V3_ENVIRONMENTS.values()})
CONTACT = (
    "dist", "pos", "frame", "friction", "solref", "solimp", "solreffriction", "dim", "mu",
    "includemargin", "efc_address",
)  # fmt: skip


def contacts(model, data):
    found = {name: getattr(data.contact, name).tobytes() for name in CONTACT}
    found["bodies"] = model.geom_bodyid[data.contact.geom].tolist()
    # Of the same geoms, too: their ids differ, as unseen ones are left out.
    found["sizes"] = model.geom_size[data.contact.geom].tolist()
    found["forces"] = data.efc_force.tobytes()
    found["accelerations"] = data.qacc.tobytes()
    return found


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.rsplit("_", 1)[-1])
def test_the_models_contacts_are_mujocos_own(path):
    models = [mujoco.MjModel.from_xml_path(path), compile_model(path)]
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

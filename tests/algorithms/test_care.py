"""CARE against its re-implementation, its sizes, and who trains the shared encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from oracle import Get, Numbers, actions_last, by_task, compare, equal, load, per_task

from algorithms.algorithm import Batch, Outcomes, Problem
from algorithms.care import CARE, CARESettings, MixedEncoder
from algorithms.encoded import Context, EncodedNetwork, Torso, described
from algorithms.parts.layers import he_uniform, unit_normal, with_rows, zero
from algorithms.sac import SACSettings

T, B = 3, 6
RX: dict[str, Any] = {
    "encoder": "separate",
    "encoder_depth": 2,
    "detach_attention": False,
    "log_std_bound": "clamp",
    "init": "scaling",
}
"""What the re-implementation does otherwise."""


def jax(get: Get, data: Numbers) -> Numbers:
    """The re-implementation's parameters under our names."""
    ours = {"context.table.rows": get("task_embedding.table")}
    names = {f"context.trunk.{2 * i}": f"context_layer_{i}" for i in range(3)}
    names |= {f"encoder.attention.{2 * i}": f"attention_layer_{i}" for i in range(3)}
    names |= {f"torso.hidden.{2 * i}": f"torso_layer_{i}" for i in range(2)}
    for name, theirs in {**names, "torso.head.1": "head"}.items():
        ours[f"{name}.weight"] = get(f"{theirs}.kernel").T
        ours[f"{name}.bias"] = get(f"{theirs}.bias")
    for i in range(3):
        kernel = get(f"encoder_layer_{i}.kernel")
        ours[f"encoder.encoders.{2 * i}.weight"] = kernel if i else actions_last(kernel, data)
        ours[f"encoder.encoders.{2 * i}.bias"] = get(f"encoder_layer_{i}.bias")[:, None]
    return ours


@pytest.mark.parametrize("case", ["actor_K3", "actor_K2_temp", "critic_K3"])
def test_equals_the_public_network(case: str) -> None:
    data = load(f"care_{case}")
    settings = CARESettings(**RX, attention_temperature=data["in/temperature"].item())
    net = EncodedNetwork(
        Context(3, 6, he_uniform, unit_normal, trunk=(6, 6, 6)),
        MixedEncoder(7, 6, he_uniform, settings),
        Torso(12, 4, 12, 2, he_uniform, (zero, zero)),
    )
    x = compare(net, data, lambda get: jax(get, data))
    context = net.context()
    equal(context, per_task(data["mid/context"]))
    equal(net.encoder.weights(context), per_task(data["mid/attention_weights"]))
    equal(net.encoder.encoders(x).movedim(0, 2), by_task(data["mid/encoder_out"]))
    equal(with_rows(net.encoder(x, context), context), by_task(data["mid/torso_in"]))


def test_attention_is_a_share_and_one_encoder_needs_none() -> None:
    context = torch.randn(T, 8)
    several = MixedEncoder(7, 8, he_uniform, CARESettings())
    torch.testing.assert_close(several.weights(context).sum(-1), torch.ones(T))
    one = MixedEncoder(7, 8, he_uniform, CARESettings(experts=1))
    assert one.weights(context).eq(1).all()


@pytest.mark.parametrize("detached", [True, False])
def test_gradients_reach_the_context_through_the_attention_unless_detached(detached: bool) -> None:
    encoder = MixedEncoder(7, 8, he_uniform, CARESettings(detach_attention=detached))
    context = torch.randn(T, 8, requires_grad=True)
    assert encoder.weights(context).requires_grad  # of the attention's own weights
    encoding = encoder(torch.randn(T, B, 7), context)
    (gradient,) = torch.autograd.grad(encoding.sum(), context, materialize_grads=True)
    assert bool((gradient == 0).all()) is detached


def sized(tasks: int, **fields: Any) -> CARE:
    return CARE(CARESettings(**fields), Problem(tuple(f"task-{i}" for i in range(tasks))))


def test_the_scaling_preset_is_the_re_implementation() -> None:
    fields, plain = CARE.presets["scaling"], SACSettings()
    assert {name: fields[name] for name in RX} == RX
    assert fields["normalise_rewards"] is False
    for name in ("adam_epsilon", "gradient_clip", "clip_critics"):
        assert fields[name] == getattr(plain, name), "as all methods of the scaling study"


@pytest.mark.parametrize(("tasks", "actor"), [(10, 396_062), (50, 398_062)])
def test_sizes_with_a_shared_encoder(tasks: int, actor: int) -> None:
    # Critics read 50 of the encoding, 50 of the context and 4 of the action.
    critic = 105 * 400 + 2 * 401 * 400 + 401
    assert sized(tasks).parameter_counts() == (actor, 2 * critic)


def tiny(**fields: Any) -> CARE:
    values = {"actor_width": 24, "critic_width": 16, "encoder_ratio": 0.5, **fields}
    return CARE(CARESettings(**values), Problem(tuple("abc")))


@pytest.fixture
def batch() -> Batch:
    random = torch.Generator().manual_seed(0)
    observations, following = torch.randn(2, T, B, 39, generator=random)
    actions = torch.rand(T, B, 4, generator=random) * 2 - 1
    rewards = torch.rand(T, B, generator=random)
    return Batch(observations, actions, rewards, following, torch.zeros(T, B))


def test_the_critics_loss_alone_trains_the_shared_encoder(batch: Batch) -> None:
    algorithm = tiny()
    data = algorithm.with_extras(
        batch,
        **algorithm.given("update", B, torch.Generator().manual_seed(1)),
        temperature=torch.ones(T),
    )
    data = algorithm.with_extras(data, target=algorithm.target(algorithm.state, data))
    _, _, of_actor = algorithm.differentiate("actor", algorithm.state, data)
    _, _, of_critic = algorithm.differentiate("critic", algorithm.state, data)
    assert of_actor(torch.ones(T)).keys() == {"actor"}
    gradients = of_critic(torch.ones(T))
    assert gradients.keys() == {"critic", "encoder", "context"}
    for name in ("encoder", "context"):
        views = algorithm.networks[name].views(gradients[name])
        assert all(part.abs().max() > 0 for part in views.values())


def test_the_encoders_target_follows_at_a_rate_of_its_own(batch: Batch) -> None:
    algorithm = tiny()
    assert "context.target" not in algorithm.state
    start = {name: algorithm.state[f"{name}.target"].clone() for name in ("critic", "encoder")}
    algorithm.update(batch)
    for name, rate in (("critic", 0.005), ("encoder", 0.05)):
        expected = start[name] + rate * (algorithm.state[name] - start[name])
        torch.testing.assert_close(algorithm.state[f"{name}.target"], expected)
        assert not torch.equal(algorithm.state[name], start[name])


def test_targets_read_the_encoders_slow_copy(batch: Batch) -> None:
    algorithm = tiny()
    algorithm.state["encoder.target"].mul_(2)
    inputs = torch.cat([batch.observations, batch.actions], -1)
    slow, online = (
        algorithm.values(algorithm.weights(algorithm.state, targets), inputs, "target", {})
        for targets in (True, False)
    )
    assert not torch.allclose(slow, online)


def test_the_log_std_is_bound_by_a_tanh() -> None:
    _, log_std = tiny().mean_and_log_std(torch.tensor([0.0, -50.0, 0.0, 50.0]).view(1, 1, 4))
    assert log_std.flatten().tolist() == [-9.0, 2.0]
    _, log_std = tiny(log_std_bound="clamp").mean_and_log_std(torch.zeros(1, 1, 4))
    assert log_std.flatten().tolist() == [0.0, 0.0]


def test_rewards_are_divided_by_their_running_deviation(batch: Batch) -> None:
    """Step by step as the environments' wrapper of the authors' code has it."""
    algorithm = tiny()
    rewards = torch.rand(T, 1, 400) * torch.tensor([0.1, 1.0, 10.0])[:, None, None]
    returns = rewards.sum(-1).double()
    whole = Outcomes(returns, torch.zeros(T, 1), rewards, rewards.double().mean((1, 2)))
    assert torch.equal(algorithm.rewards(algorithm.state, batch), batch.rewards)
    algorithm.end_random_episodes(whole)  # these count, too
    expected = []
    for task in rewards[:, 0].double().tolist():
        mean, variance = 0.0, 1.0
        for reward in task:
            mean = 0.999 * mean + 0.001 * reward
            variance = 0.999 * variance + 0.001 * (reward - mean) ** 2
        expected.append(variance**0.5 + 1e-8)
    found = algorithm.rewards(algorithm.state, batch)
    torch.testing.assert_close(found, batch.rewards / torch.tensor(expected)[:, None])
    plain = tiny(normalise_rewards=False)
    plain.end_episodes(whole)
    assert torch.equal(plain.rewards(plain.state, batch), batch.rewards)


@pytest.mark.parametrize("encoder", ["shared", "separate"])
def test_each_task_is_described_by_its_own_metadata(
    encoder: str, tmp_path: Path, batch: Batch
) -> None:
    path = tmp_path / "tasks.npy"
    outputs = []
    for third in (1.0, 2.0):
        np.save(path, np.array([[1.0, 0.5]] * 2 + [[third, -1.0]]))
        algorithm = tiny(encoder=encoder, metadata=str(path))
        decision = algorithm.act(batch.observations[:1].expand(T, -1, -1), explore=False)
        outputs.append(decision.actions)
        torch.testing.assert_close(decision.actions[0], decision.actions[1])
        algorithm.update(batch)
    assert torch.equal(outputs[0][:2], outputs[1][:2])
    assert not torch.equal(outputs[0][2], outputs[1][2])


def test_metadata_is_read_by_name_and_trains_no_table(tmp_path: Path, batch: Batch) -> None:
    vectors = {name: np.random.default_rng(i).normal(size=7) for i, name in enumerate("cxab")}
    np.savez(tmp_path / "tasks.npz", **vectors)
    algorithm = tiny(metadata=str(tmp_path / "tasks.npz"))
    expected = np.stack([vectors[name] for name in "abc"]).astype(np.float32)
    assert algorithm.metadata is not None
    assert np.array_equal(algorithm.metadata.numpy(), expected)
    names = {entry.name for entry in algorithm.networks["context"].layout}
    assert "table.rows" not in names and "projection.0.weight" in names
    algorithm.update(batch)
    saved = algorithm.state_dict()
    algorithm.load_state_dict(saved)
    np.save(tmp_path / "tasks.npy", expected)
    tiny(metadata=str(tmp_path / "tasks.npy")).load_state_dict(saved)
    np.save(tmp_path / "tasks.npy", 2 * expected)
    with pytest.raises(ValueError, match="not what the run began with"):
        tiny(metadata=str(tmp_path / "tasks.npy")).load_state_dict(saved)


@pytest.mark.parametrize(
    ("vectors", "reason"),
    [
        (np.zeros((2, 5)), r"\[2, 5\]; give numbers \[3 tasks, size\]"),
        (np.zeros(3), r"\[3\]; give numbers"),
        (np.full((3, 5), "x"), "give numbers"),
        (np.full((3, 5), np.nan), "not finite"),
        (None, "No such file"),
    ],
)
def test_unusable_metadata_is_refused(
    vectors: np.ndarray[Any, Any] | None, reason: str, tmp_path: Path
) -> None:
    path = tmp_path / "tasks.npy"
    if vectors is not None:
        np.save(path, vectors)
    with pytest.raises(ValueError, match=rf"metadata: .*{reason}"):
        described(str(path), tuple("abc"))


def test_metadata_without_a_task_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "tasks.npz", a=np.zeros(3), b=np.zeros(3))
    with pytest.raises(ValueError, match=r"metadata: .*has no array c"):
        described(str(tmp_path / "tasks.npz"), tuple("abc"))

"""D2R's network against the numbers of its authors' code; see oracles/README.md."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from oracle import FOLDER, Numbers, by_task, equal, load
from oracle import SAMPLES as B
from oracle import TASKS as T
from torch import Tensor
from torch.func import functional_call

from algorithms.algorithm import Algorithm
from algorithms.d2r import D2RSettings
from algorithms.modules.routing import RoutedNetwork, as_table, trust

CASES = sorted(path.stem for path in FOLDER.glob("d2r_*.npz"))


def read(case: str) -> Numbers:
    """The arrays of a case; what has a row per sample as [T, B, ...]."""
    return {k: by_task(v) if v.shape[0] == T * B else v for k, v in load(case).items()}


def our_name(name: str) -> str:
    """`base_1.weight` → `base.layers.2.weight`."""
    layer, _, kind = name.partition(".")
    part, _, number = layer.rpartition("_")
    match part:
        case "base":
            return f"base.layers.{2 * int(number)}.{kind}"
        case "router":
            return f"router.{2 * int(number)}.{kind}"
        case "module":
            place = "first" if number == "1" else f"later.{int(number) - 2}"
            return f"stack.{place}.{kind}"
        case "task":
            return "embedding" if kind == "weight" else "embedding_bias"
    return name


def ours(oracle: Numbers, group: str) -> Numbers:
    """Weights or gradients under our names; a row of the embedding is a column of theirs."""
    named = {our_name(k.removeprefix(group)): v for k, v in oracle.items() if k.startswith(group)}
    return named | {"embedding": named["embedding"].T}


def network(case: str) -> RoutedNetwork:
    """Of the oracle's structure; its layers have sizes of their own, which its weights bring."""
    n = 6 if "n6" in case else 4
    top_k = {"soft": n, "top3": 3}.get(case.split("_")[3], 2)
    s = D2RSettings(modules=n, top_k=top_k, resrouting=case.endswith("train"))
    return RoutedNetwork(T, 7, 4, 12, s).double()


@pytest.mark.usefixtures("stacks")
@pytest.mark.parametrize("case", CASES)
def test_values_and_gradients_are_the_authors(case: str) -> None:
    oracle, net = read(case), network(case)
    weights = {k: w.requires_grad_() for k, w in ours(oracle, "param/").items()}
    assert weights.keys() == dict(net.named_parameters()).keys()
    inputs = {k: oracle[k].requires_grad_() for k in ("in/obs", "in/action") if k in oracle}
    chosen = None
    if "givenroute" in case or "sampled" in case:  # what was drawn there is replayed here
        chosen = as_table(oracle["mid/route_mask_used"], 0).bool()

    head_inputs: list[Tensor] = []
    net.head.register_forward_pre_hook(lambda _, inputs: head_inputs.append(inputs[0]))
    x = torch.cat(list(inputs.values()), -1)
    output, used, logits = functional_call(net, weights, (x, None, None, chosen))

    flat = torch.ones_like(logits).tril().bool()
    equal(output, oracle["out/raw" if "actor" in case else "out/q"], "output")
    equal(logits[flat].view(T, B, -1), oracle["mid/routing_logits"], "logits")
    equal(head_inputs[0], oracle["mid/head_in"], "input of the head")
    assert torch.equal(used[flat].view(T, B, -1), oracle["mid/route_mask_used"].bool())
    assert torch.equal(trust(logits)[flat].view(T, B, -1), oracle["mid/trusted"].bool())
    mixing = torch.softmax(logits.masked_fill(~used, -torch.inf), -1)
    equal(mixing[flat].view(T, B, -1), oracle["mid/routing_weights"], "mixing weights")

    loss = (output * oracle["in/cotangent"]).sum()
    leaves = weights | inputs
    found = dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))
    for name, expected in ours(oracle, "grad/").items():
        equal(found[name], expected, f"gradient of {name}")
    for name in inputs:
        equal(found[name], oracle[name.replace("in/", "grad_in/")], f"gradient of {name}")


def test_only_training_detaches() -> None:
    """Else a case would be compared with nothing."""
    train, plain = (read(f"d2r_actor_n4_greedy_{mode}") for mode in ("train", "eval"))
    assert torch.equal(train["out/raw"], plain["out/raw"])
    assert not torch.allclose(train["grad/module_2.weight"], plain["grad/module_2.weight"])


def test_routes_are_balanced_as_the_authors_do(build: Callable[..., Algorithm]) -> None:
    oracle, algorithm = read("d2r_actor_n4_sampled_train"), build("d2r")
    heat = algorithm.task_weights({"log_temperature": oracle["in/log_alpha"]})  # type: ignore[attr-defined]
    equal(heat, oracle["in/temperature"], "route balancing")
    # What the sampled keys of the network's scores, logits / heat + Gumbel, are draws from.
    heated = torch.softmax(as_table(oracle["mid/routing_logits"]) / heat[:, None, None, None], -1)
    flat = torch.ones_like(heated).tril().bool()
    equal(heated[flat].view(T, B, -1), oracle["mid/behaviour_probs"], "probabilities")


def test_there_are_all_cases() -> None:
    assert len(CASES) == 9

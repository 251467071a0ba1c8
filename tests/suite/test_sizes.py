"""Widths at given sizes: equal to what is really built, and to what the scaling study matched."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from algorithms import ALGORITHMS, load
from algorithms.algorithm import Problem
from suite.cli import main
from suite.envs.tasks import task_names
from suite.messages import UserError
from suite.options import parse
from suite.presets import preset
from suite.sizes import WIDEST, count, matched, nearest, target, without_memory

HERE = Path(__file__).parents[2]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize(("actor", "critic"), [(7, 19), (64, 31)])
def test_counting_without_memory_equals_building(algorithm: str, actor: int, critic: int) -> None:
    trained, tasks = load(algorithm), task_names("MT10")
    settings = replace(trained.Settings(), actor_width=actor, critic_width=critic)
    built = trained(settings, Problem(tasks)).parameter_counts()
    assert count(algorithm, settings, tasks) == built


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_counting_takes_no_memory(algorithm: str) -> None:
    # 10¹⁰ parameters: 40 GB and more, were they real.
    settings = replace(load(algorithm).Settings(), actor_width=100_000, critic_width=100_000)
    counted = without_memory(algorithm, settings, Problem(task_names("MT50")))
    assert counted.parameter_counts().total > 10**10
    tensors = counted.state_dict()["tensors"]
    assert {t.device.type for t in tensors.values() if t.numel() > 1000} == {"meta"}


# Table of the scaling study, arXiv 2503.05126: actors of three architectures on MT10, and the
# widths of the plain actors that it matched to them.
@pytest.mark.parametrize(
    ("parameters", "published"),
    [(691_022, 550), (1_379_320, 800), (1_700_095, 885)],
    ids=["Soft Modules", "MOORE", "PaCo"],
)
def test_the_scaling_studys_matched_widths(parameters: int, published: int) -> None:
    config = matched(preset("scaling", "mtsac", "MT10"), f"actor={parameters}", "scaling")
    assert abs(config.settings.actor_width / published - 1) < 0.012
    assert config.settings.critic_width == 400
    found = count("mtsac", config.settings, config.tasks).actor
    assert abs(found / parameters - 1) < 0.01


def test_known_sizes_give_back_their_widths() -> None:
    start = preset("scaling", "mtsac", "MT10")
    config = matched(start, "actor=164944+critic=692820", "scaling")
    assert (config.settings.actor_width, config.settings.critic_width) == (256, 400)
    config = matched(start, str(372_880 + 692_820), "scaling")
    assert (config.settings.actor_width, config.settings.critic_width) == (400, 400)


@given(st.lists(st.integers(0, 30), min_size=1, max_size=60), st.integers(1, 400), st.booleans())
def test_the_nearest_width_is_the_best_of_all(steps: list[int], wanted: int, flat: bool) -> None:
    counts = [1]
    for step in steps:
        counts.append(counts[-1] + (step if flat else max(step, 1)))

    def count_at(width: int) -> int:
        return counts[min(width, len(counts)) - 1] + max(0, width - len(counts))

    found = nearest(count_at, wanted)
    best = min(abs(count_at(w) - wanted) for w in range(1, 512))
    assert 1 <= found <= WIDEST
    assert abs(count_at(found) - wanted) == best


@pytest.mark.parametrize("reference", ["d2r", "mega"])
def test_matching_an_algorithm_takes_the_size_of_each_network(reference: str) -> None:
    config = parse(["--alg", "mtsac", "--match", reference, "--preset", "scaling"])
    wanted = count(reference, preset("scaling", reference, "MT10").settings, config.tasks)
    found = count("mtsac", config.settings, config.tasks)
    assert abs(found.actor / wanted.actor - 1) < 0.01
    assert abs(found.critic / wanted.critic - 1) < 0.01


def test_a_matched_run_is_the_run_with_these_widths() -> None:
    config = parse(["--alg", "mtsac", "--match", "d2r", "--horizon", "100"])
    widths = [config.settings.actor_width, config.settings.critic_width]
    same = ["--actor-width", str(widths[0]), "--critic-width", str(widths[1]), "--horizon", "100"]
    assert config == parse(["--alg", "mtsac", *same])
    assert widths != [128, 128]
    assert f"a{widths[0]}-c{widths[1]}" in config.name()


def test_the_reference_has_the_size_that_it_has_at_the_preset_and_tasks() -> None:
    quick = parse(["--alg", "mtsac", "--match", "d2r"])
    full = parse(["--alg", "mtsac", "--match", "d2r", "--preset", "scaling"])
    assert quick.settings.actor_width < full.settings.actor_width
    d2r = preset("quick", "d2r", "MT50")
    assert target("d2r", preset("quick", "mtsac", "MT50"), "quick")[:2] == count(
        "d2r", d2r.settings, d2r.tasks
    )


def test_a_size_out_of_reach_is_answered_with_commands_that_work() -> None:
    """MOORE's width is too coarse for the critics of a small MT-SAC, not the other way round."""
    with pytest.raises(UserError, match="no critic of moore has 82,452 parameters") as refused:
        parse(["--alg", "moore", "--match", "mtsac"])
    _, nearest, other = re.split(": (?=--)", str(refused.value))
    widths, turned = nearest.partition(";")[0].split(), other.split()
    near, wanted = parse(["--alg", "moore", *widths]), preset("quick", "mtsac", "MT10")
    counts = count("moore", near.settings, near.tasks)
    aims = count("mtsac", wanted.settings, wanted.tasks)
    assert all(abs(a / b - 1) < 0.02 for a, b in zip(counts, aims, strict=True))
    parse(turned)


def test_a_size_of_one_network_leaves_the_other() -> None:
    config = parse(["--alg", "mtsac", "--match", "actor=1M", "--critic-width", "77"])
    assert config.settings.critic_width == 77
    assert abs(count("mtsac", config.settings, config.tasks).actor / 1e6 - 1) < 0.01


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--match", "d2r", "--actor-width", "3"], ["match: 'd2r' decides actor-width", "3"]),
        (["--match", "4M", "--critic-width", "3"], ["match: '4M' decides critic-width"]),
        (["--match", "actor=1M", "--actor-width", "3"], ["decides actor-width"]),
        (["--match", "d2d"], ["match: 'd2d'", "mtsac, d2r, mega", "did you mean d2r?"]),
        (["--match", "actr=1M"], ["match: 'actr'", "did you mean actor?"]),
        (["--match", "actor=much"], ["match: 'much' is not a parameter count", "1.5M"]),
        (["--match", "1.5"], ["match: '1.5' is not a parameter count"]),
        (["--match", "1e16"], ["match: '1e16' is not a parameter count", "at most 1e+15"]),
        (["--match", "total=1M", "--actor-width", "3"], ["decides actor-width"]),
        (["--match", "0"], ["match: '0' is not a parameter count"]),
        (["--match", "total=1M+actor=1k"], ["gives total and a part of it"]),
        (["--match", "300"], ["no total of mtsac has 300", "width 1 has", "width 2 has 652"]),
        (["--match", "300"], ["the nearest, instead of --match: --actor-width 1 --critic-width 1"]),
        (["--match", "critic=900000G"], ["no critic of mtsac", f"width {WIDEST} has"]),
        (["--match"], ["match: no value given"]),
    ],
)
def test_a_mistake_is_one_line_that_says_what_is_possible(
    arguments: list[str], expected: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", "--alg", "mtsac", *arguments]) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    for part in expected:
        assert part in line


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["moore", "--match", "actor=100"], "match: of 100 parameters: experts 4 cannot be"),
        (["moore", "--match", "actor=1000"], "within 1%; width 4 has 1,240, width 5 has 1,560;"),
        (["care", "--metadata", "nowhere.npy"], "metadata: nowhere.npy: No such file"),
        (["ars", "--resets", "30"], "resets 30 do not fit into a run of 10 rounds"),
    ],
)
def test_what_an_algorithm_refuses_is_refused_before_it_has_a_directory(
    arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    here = ["--preset", "smoke", "--results", str(tmp_path)]
    assert main(["bench", *here, "--alg", *arguments]) == 2
    line = capsys.readouterr().err
    assert expected in line and line.count("\n") == 1
    assert not list(tmp_path.iterdir())


OWN = '''
from dataclasses import dataclass, field
import torch
from torch import nn
from algorithms.mtsac import MTSAC
from algorithms.mtsac import MTSACSettings
from algorithms.sac import SACSettings


@dataclass(frozen=True, slots=True)
class Wide(MTSACSettings):
    extra: int = field(default=5, repr=False)
    """Units more."""


class Own(MTSAC):
    Settings = Wide

    def build_actor(self):
        actor = super().build_actor()
        actor.more = nn.Sequential(nn.Linear(self.settings.actor_width, self.settings.extra))
        nn.init.orthogonal_(actor.more[0].weight)
        return actor


class Fixed(MTSAC):
    Settings = SACSettings


class Unbuildable(MTSAC):
    def build_actor(self):
        return self.actor


class Reader(MTSAC):
    def build_actor(self):
        if torch.ones(3).sum().item() > 2:
            return super().build_actor()
'''


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_sizes.py").write_text(textwrap.dedent(OWN))
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.usefixtures("own")
def test_a_users_own_algorithm_is_matched_by_the_same_field_names() -> None:
    config = parse(["--alg", "own_sizes:Own", "--match", "d2r", "--extra", "50"])
    d2r = preset("quick", "d2r", "MT10")
    found = count("own_sizes:Own", config.settings, config.tasks)
    assert config.settings.extra == 50
    assert abs(found.actor / count("d2r", d2r.settings, d2r.tasks).actor - 1) < 0.01
    # And the other way round: it is what another one is matched to.
    back = parse(["--alg", "d2r", "--match", "own_sizes:Own"])
    own = preset("quick", "own_sizes:Own", "MT10")
    wanted = count("own_sizes:Own", own.settings, own.tasks)
    assert abs(count("d2r", back.settings, back.tasks).critic / wanted.critic - 1) < 0.01


@pytest.mark.usefixtures("own")
def test_what_settings_leave_out_of_their_text_counts() -> None:
    settings = [replace(load("own_sizes:Own").Settings(), extra=units) for units in (5, 50)]
    few, many = (count("own_sizes:Own", own, task_names("MT10")).actor for own in settings)
    assert many - few == 45 * (settings[0].actor_width + 1)


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("own_sizes:Fixed", "own_sizes:Fixed has no setting actor_width"),
        ("own_sizes:Unbuildable", "it cannot be built .AttributeError: .*'actor'.$"),
        ("own_sizes:Reader", "must not read the values of tensors"),
    ],
)
def test_an_algorithm_that_cannot_be_matched_says_why(name: str, expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        parse(["--alg", name, "--match", "1M"])


def test_counting_does_not_import_torchs_compiler() -> None:
    """Which takes as long as all the rest of a dry run."""
    lines = [
        "import sys",
        "from algorithms import ALGORITHMS",
        "from suite.presets import preset",
        "from suite.sizes import count",
        "for name in ALGORITHMS:",
        "    config = preset('quick', name, 'MT10')",
        "    count(name, config.settings, config.tasks)",
        "    assert 'torch._dynamo' not in sys.modules, name",
    ]
    subprocess.run([sys.executable, "-c", "\n".join(lines)], cwd=HERE, check=True)

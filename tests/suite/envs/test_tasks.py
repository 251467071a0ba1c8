"""Task sets are read as a user means them; goals are Meta-World's own, or independent draws."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from metaworld import env_dict

from suite.envs import PRESET_GOALS
from suite.envs.tasks import Goal, Goals, all_tasks, task_names, task_sets
from suite.messages import UserError
from suite.randomness import stream

MT10 = (
    *("reach", "push", "pick-place", "door-open", "drawer-open", "drawer-close"),
    *("button-press-topdown", "peg-insert-side", "window-open", "window-close"),
)


def test_mt10_is_meta_worlds_in_its_order() -> None:
    assert task_names("MT10") == tuple(f"{name}-v3" for name in MT10)


def test_names_are_those_that_meta_world_has_when_it_is_imported() -> None:
    assert all_tasks() == tuple(env_dict.ALL_V3_ENVIRONMENTS)
    expected = {"MT10": env_dict.MT10_V3, "MT25": env_dict.MT25_V3, "MT50": env_dict.MT50_V3}
    assert task_sets() == {name: tuple(tasks) for name, tasks in expected.items()}


@pytest.mark.parametrize(("name", "count"), [("MT10", 10), ("MT25", 25), ("MT50", 50)])
def test_benchmarks_have_as_many_distinct_tasks_as_they_say(name: str, count: int) -> None:
    names = task_names(name)
    assert len(set(names)) == len(names) == count
    assert set(names) <= set(all_tasks())
    assert task_names(name.lower()) == names


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("reach-v3", ("reach-v3",)),
        ("reach", ("reach-v3",)),
        ("MT1:reach-v3", ("reach-v3",)),
        ("mt1:reach", ("reach-v3",)),
        ("push,reach-v3", ("push-v3", "reach-v3")),
        (" push , reach ", ("push-v3", "reach-v3")),
        ("Reach-V3,PUSH", ("reach-v3", "push-v3")),
        ("MT10 ", tuple(f"{name}-v3" for name in MT10)),
    ],
)
def test_tasks_are_read_with_or_without_suffix_in_the_given_order(
    given: str, expected: tuple[str, ...]
) -> None:
    assert task_names(given) == expected


@pytest.mark.parametrize(
    ("given", "value", "near"),
    [
        ("reech", "reech", "reach-v3"),
        ("push,windw-open", "windw-open", "window-open-v3"),
        ("MT1:pusch-v3", "pusch-v3", "push-v3"),
        ("MT11", "MT11", "MT10"),
        ("mt-10", "mt-10", "MT10"),
    ],
)
def test_an_unknown_task_is_named_with_the_nearest_one(given: str, value: str, near: str) -> None:
    with pytest.raises(UserError) as error:
        task_names(given)
    message = str(error.value)
    assert message.startswith(f"tasks: {value!r} is not one of MT10, MT25, MT50, MT1:<task>, or")
    assert message.endswith(f"did you mean {near}?")


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ("reach,reach-v3", "listed twice"),
        ("MT1:reach,push", "MT1 takes one task"),
        ("", "is not one of"),
        ("reach,MT1O", "is not one of .*reach-v3,push-v3$"),
    ],
)
def test_a_list_that_makes_no_sense_is_refused(given: str, problem: str) -> None:
    with pytest.raises(UserError, match=problem):
        task_names(given)


# Goals ---------------------------------------------------------------------------------------


def metaworlds(benchmark: object, name: str) -> np.ndarray:
    tasks = [task for task in benchmark.train_tasks if task.env_name == name]  # type: ignore[attr-defined]
    return np.array([pickle.loads(task.data)["rand_vec"] for task in tasks])


@pytest.fixture(scope="module")
def reach() -> Goals:
    return Goals("reach", "preset", seed=0, goal_seed=3, engine="fast")


def without_files(mode: str, seed: int = 0, tasks: str = "reach,push") -> Goals:
    """Goals whose presets are numbered vectors, so that no env has to be built."""
    goals = Goals(tasks, "random", seed, 0, "fast")
    goals.mode = goals.evaluated = mode
    if mode != "random":
        count = len(goals.names)
        goals.preset = [np.array([[t, i, 0.0] for i in range(PRESET_GOALS)]) for t in range(count)]
    return goals


def indices(goals: list[Goal]) -> list[int]:
    return [int(goal.vector[1]) for goal in goals if goal.vector is not None]


def test_goals_of_one_task_are_those_of_metaworlds_mt1(reach: Goals) -> None:
    import metaworld

    expected = metaworlds(metaworld.MT1("reach-v3", seed=3), "reach-v3")
    assert expected.shape == (50, 6)
    np.testing.assert_array_equal(reach.preset[0], expected)


def test_goals_of_mt10_are_those_of_metaworlds_mt10() -> None:
    import metaworld

    ours, theirs = Goals("MT10", "preset", 0, 3, "fast"), metaworld.MT10(seed=3)
    for name, goals in zip(ours.names, ours.preset, strict=True):
        np.testing.assert_array_equal(goals, metaworlds(theirs, name), err_msg=name)


def test_a_task_has_the_same_goals_in_every_list(reach: Goals) -> None:
    both = Goals("push,reach", "preset", seed=0, goal_seed=3, engine="fast")
    np.testing.assert_array_equal(both.preset[1], reach.preset[0])
    assert not np.array_equal(both.preset[0], both.preset[1])


def test_the_goal_seed_decides_the_preset_goals_and_the_runs_seed_does_not(reach: Goals) -> None:
    same = Goals("reach", "preset", seed=9, goal_seed=3, engine="fast")
    np.testing.assert_array_equal(same.preset[0], reach.preset[0])
    other = Goals("reach", "preset", seed=0, goal_seed=4, engine="fast")
    assert not np.array_equal(other.preset[0], reach.preset[0])


def test_preset_evaluation_takes_each_of_the_first_goals_once_in_order() -> None:
    goals = without_files("preset")
    for episodes in (1, 10, 50):
        evaluated = goals.evaluation(episodes)
        assert [indices(task) for task in evaluated] == [list(range(episodes))] * 2
    # And of its own task.
    assert {goal.vector[0] for goal in goals.evaluation(50)[1] if goal.vector is not None} == {1}


def test_evaluation_goals_may_be_others_than_those_of_training() -> None:
    """ARS trains on random goals and is evaluated on the first preset ones."""
    goals, random = without_files("preset"), without_files("random")
    goals.mode = "random"
    assert [indices(task) for task in goals.evaluation(10)] == [list(range(10))] * 2
    assert goals.training(3, 2) == random.training(3, 2)


def test_preset_training_draws_from_all_50_goals_of_the_right_task() -> None:
    goals = without_files("preset")
    drawn = [goals.training(episode, 2) for episode in range(400)]
    assert all([int(g.vector[0]) for g in d if g.vector is not None] == [0, 0, 1, 1] for d in drawn)
    counts = np.bincount([index for d in drawn for index in indices(d)], minlength=50)
    assert len(counts) == 50
    # 1600 draws over 50 goals, 32 each with standard deviation 5.6.
    assert counts.min() > 32 - 5 * 5.6
    assert counts.max() < 32 + 5 * 5.6


def test_goal_streams_are_independent_across_envs_tasks_and_episodes() -> None:
    goals = without_files("preset")
    table = np.array([indices(goals.training(episode, 3)) for episode in range(2000)])
    # Envs and tasks (columns) against each other, and each against its next episode.
    lagged = np.hstack([table[:-1], table[1:]])
    correlations = np.corrcoef(lagged.T)[np.triu_indices(12, 1)]
    assert np.abs(correlations).max() < 5 / np.sqrt(2000)
    # In lockstep all would be equal; independent envs agree in one draw of 50.
    assert 0.005 < np.mean(table[:, 0] == table[:, 1]) < 0.05


def test_training_goals_depend_on_seed_and_episode_alone() -> None:
    goals = without_files("preset")
    assert indices(goals.training(17, 4)) == indices(without_files("preset").training(17, 4))
    assert indices(goals.training(17, 4)) != indices(goals.training(18, 4))
    assert indices(goals.training(17, 4)) != indices(without_files("preset", 1).training(17, 4))


def test_fixed_goals_are_one_for_the_whole_run_and_evaluated_once() -> None:
    goals = without_files("fixed")
    assert {tuple(indices(goals.training(episode, 2))) for episode in range(30)} == {(0, 0, 0, 0)}
    assert [indices(task) for task in goals.evaluation(50)] == [[0], [0]]


def test_random_goals_are_fresh_for_each_env_and_episode() -> None:
    goals = without_files("random")
    drawn = [goal for episode in range(20) for goal in goals.training(episode, 2)]
    assert all(goal.vector is None for goal in drawn)
    assert len({goal.stream for goal in drawn}) == 20 * 4
    assert goals.training(3, 2) == goals.training(3, 2)


def test_random_evaluation_goals_are_the_same_every_time_and_never_those_of_training() -> None:
    goals = without_files("random")
    evaluated = goals.evaluation(50)
    assert evaluated == goals.evaluation(50)
    # A different number of episodes must not change the goals that both have.
    assert [task[:10] for task in evaluated] == goals.evaluation(10)

    def first_draw(goal: Goal) -> float:
        assert goal.stream is not None
        seed, purpose = goal.stream
        return float(stream(seed, *purpose).random())

    seen = {first_draw(goal) for task in evaluated for goal in task}
    assert len(seen) == 100
    training = {first_draw(g) for episode in range(100) for g in goals.training(episode, 2)}
    assert not seen & training

"""One line that a user can act on."""

from __future__ import annotations

from suite.messages import choose


def test_names_the_field_the_value_the_choices_and_the_nearest_match() -> None:
    line = choose("preset", "quik", ["smoke", "quick"])
    assert line == "preset: 'quik' is not one of smoke, quick; did you mean quick?"


def test_nearest_match_ignores_case_and_keeps_the_spelling_of_the_choice() -> None:
    assert choose("tasks", "mt1O", ["MT10", "reach-v3"]).endswith("did you mean MT10?")


def test_the_nearest_match_is_not_hidden_behind_many_choices() -> None:
    many = [f"choice-{i}" for i in range(11)]
    line = choose("sweep", "choice_7", many)
    assert line.startswith(
        "sweep: 'choice_7' is unknown; did you mean choice-7? There are choice-0,"
    )
    assert line.endswith("choice-10")


def test_guesses_nothing_where_nothing_is_near() -> None:
    assert "did you mean" not in choose("preset", "zzz", ["smoke", "quick"])


def test_long_lists_can_be_shown_in_short_and_are_still_searched() -> None:
    line = choose("tasks", "reech-v3", ["push-v3", "reach-v3"], shown="any task")
    assert line == "tasks: 'reech-v3' is not one of any task; did you mean reach-v3?"


def test_values_with_line_breaks_stay_on_one_line() -> None:
    assert "\n" not in choose("preset", "qu\nick", ["smoke"])

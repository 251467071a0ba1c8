"""What to call a configuration: the algorithm, and what tells it from others of the algorithm.

Runs share a label exactly when they share everything but the seed (and the device, which only
rounds differently): they are the sample that statistics are computed over.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from algorithms import ALGORITHMS
from analysis.columns import PARAMETERS, PROTOCOL, WIDTHS
from analysis.defaults import OLDER, defaults
from analysis.joining import Run

FIRST = ("tasks", "width", "goals", "reward_version", "horizon", "total_steps")
"""Fields that name a configuration rather than others that differ along with them."""

NOT_IDENTITY = frozenset(
    {"run", "algorithm", "seed", "device", "goal_seed", "steps", "metrics_every"}
)
"""`steps` counts as `total_steps`: what it was rounded up to. `metrics_every` says how many of the
rows are kept."""

OTHER_CODE = "code=other"
"""What a label says of results that the suite did not make, beside its own of the same name."""
SIZES = frozenset({"width", *WIDTHS, *PARAMETERS})

Fields = Mapping[str, Any]


def labels(runs: Sequence[Run]) -> list[str]:
    """A label for each run: `mtsac`, or `mtsac width=1024` where there are several of mtsac.

    Not every field that differs is named, only as many as tell all configurations apart;
    `unnamed` finds the rest.
    """
    found = [""] * len(runs)
    spelled: dict[str, set[tuple[str, bool, str]]] = defaultdict(set)
    own = [("", False, "")] * len(runs)
    for (algorithm, other), members in by_algorithm(runs).items():
        identities = identities_of([runs[i] for i in members])
        names = naming_fields(unique(identities), defaults(algorithm))
        for index, identity in zip(members, identities, strict=True):
            parts = [part(name, identity.get(name)) for name in names]
            found[index] = " ".join([called(algorithm, other), *parts])
            own[index] = algorithm, other, spelling(identity)
            spelled[found[index]].add(own[index])
    # Names of others may read alike: "x" of horizon 200 and an "x horizon=200".
    for index, label in enumerate(found):
        if len(spelled[label]) > 1:
            found[index] = f"{label} ({1 + sorted(spelled[label]).index(own[index])})"
    return found


def unnamed(runs: Sequence[Run]) -> dict[str, list[str]]:
    """By algorithm, the fields that differ between its configurations and are in no label."""
    found = {}
    for (algorithm, other), members in by_algorithm(runs).items():
        identities = unique(identities_of([runs[i] for i in members]))
        named = naming_fields(identities, defaults(algorithm))
        rest = [name for name in differing(identities) if name not in named]
        if rest:
            found[called(algorithm, other)] = [name.replace("_", "-") for name in rest]
    return found


def also(runs: Sequence[Run]) -> list[str]:
    """For each run the settings that its label does not name, in which configurations of the
    algorithm differ and it is not the default: `update-order=simultaneous, ...`.
    """
    found = [""] * len(runs)
    for (algorithm, _), members in by_algorithm(runs).items():
        identities = identities_of([runs[i] for i in members])
        alone = unique(identities)
        usual = defaults(algorithm)
        named = naming_fields(alone, usual)
        rest = [n for n in differing(alone) if n in usual and n not in named]
        for index, own in zip(members, identities, strict=True):
            parts = [part(n, own[n]) for n in rest if n in own and own[n] != usual[n]]
            found[index] = ", ".join(parts)
    return found


def short_names(algorithms: Mapping[str, str]) -> dict[str, str]:
    """Labels, each with its algorithm, without what goes without saying: a setting's default where
    one of the algorithm's configurations has it, else the value that more than half of them have.
    """
    own: dict[str, dict[str, list[str]]] = defaultdict(dict)
    for label, algorithm in algorithms.items():
        own[algorithm][label] = label.removeprefix(algorithm).split()
    found = {}
    for algorithm, said in own.items():
        count = Counter(word for words in said.values() for word in words)
        known = {part(k, v) for k, v in defaults(algorithm).items() if k not in WIDTHS} & {*count}
        decided = {field(word) for word in known}
        often = {word for word, times in count.items() if times > len(said) / 2}
        usual = known | {word for word in often if field(word) not in decided}
        usual -= {OTHER_CODE}
        for label, words in said.items():
            found[label] = " ".join([algorithm, *(word for word in words if word not in usual)])
    return found


def by_algorithm(runs: Sequence[Run]) -> dict[tuple[str, bool], list[int]]:
    """Positions of the runs of each algorithm; apart, with True, those of other code where runs of
    the suite have the same one.
    """
    ours = {run.columns["algorithm"] for run in runs if run.config.get("task")}
    found: dict[tuple[str, bool], list[int]] = defaultdict(list)
    for index, run in enumerate(runs):
        name = run.columns["algorithm"]
        other = name in ours and not run.config.get("task")
        found[name, other].append(index)
    return found


def called(algorithm: str, other: bool) -> str:
    """What a label begins with."""
    return f"{algorithm} {OTHER_CODE}" if other else algorithm


def identities_of(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """For each run all that could tell it from others: settings, protocol; not the seed."""
    identities = [identity(run) for run in runs]
    spelled = [spelling(fields) for fields in identities]
    # The goals' seed is the run's own unless it was given: the same for runs of several seeds.
    same: dict[str, set[Any]] = defaultdict(set)
    for run, name in zip(runs, spelled, strict=True):
        same[name].add(goal_seed(run))
    for run, name, fields in zip(runs, spelled, identities, strict=True):
        if len(same[name]) > 1 and goal_seed(run) != run.columns["seed"]:
            fields["goal_seed"] = goal_seed(run)
    return identities


def unique(identities: Sequence[Fields]) -> list[Fields]:
    """Each configuration once: of thousands of runs there are few."""
    return list({spelling(fields): fields for fields in identities}.values())


def spelling(fields: Fields) -> str:
    """Equal for equal fields, in whatever order."""
    return json.dumps(fields, sort_keys=True, default=str)


def identity(run: Run) -> dict[str, Any]:
    """A run's settings and protocol by field name, without its seeds."""
    fields = {k: v for k, v in flat(run.config).items() if k not in NOT_IDENTITY}
    for name in PROTOCOL:
        # A configuration says all that the sentence on the evaluation does.
        if name not in ("tasks", "evaluation" if run.config.get("evaluation") else ""):
            fields[name] = run.columns.get(name)
    if not run.config.get("task"):
        # Nothing else tells the sizes of other code's networks.
        fields |= {name: run.columns.get(name) for name in PARAMETERS}
    fields["tasks"] = fields.pop("task_set")
    widths = [fields.get(name) for name in WIDTHS]
    if None not in widths:
        fields["width"] = widths[0] if widths[0] == widths[1] else tuple(widths)
        for name in WIDTHS:
            del fields[name]
    return fields


def goal_seed(run: Run) -> Any:
    """The seed of the goals; the run's where its configuration does not say."""
    return run.config.get("task", {}).get("goal_seed", run.columns["seed"])


def flat(config: Mapping[str, Any]) -> dict[str, Any]:
    """A nested configuration as one level, by field name."""
    fields: dict[str, Any] = {}
    if config.get("settings") and config.get("algorithm") in ALGORITHMS:
        # A setting that is younger than the run was what is now its default.
        fields |= defaults(config["algorithm"])
    for section in ("task", "settings", "training", "evaluation"):
        if config.get(section):
            fields |= OLDER.get(section, {}) | config[section]
    return fields | {k: v for k, v in config.items() if not isinstance(v, dict)}


def differing(identities: Sequence[Fields]) -> list[str]:
    """Fields that are not the same in all, the first to be named first."""
    names = list(dict.fromkeys([*FIRST, *(name for fields in identities for name in fields)]))
    return [n for n in names if len({repr(fields.get(n)) for fields in identities}) > 1]


def naming_fields(identities: Sequence[Fields], usual: Fields) -> list[str]:
    """The first differing fields that tell all configurations apart, and those that differ in more
    than sizes without their sizes, too. A configuration whose settings are not all as usual has one
    that is not among them, or its name would be that of the plain one.
    """
    fields = differing(identities)
    names = telling(identities, fields)
    others = [name for name in fields if name not in SIZES]
    names += telling(identities, others, [name for name in names if name in others])
    for own in identities:
        changed = [n for n in fields if n in usual and n in own and own[n] != usual[n]]
        if changed and not {*changed} & {*names}:
            names.append(changed[0])
    return [name for name in fields if name in names]


def telling(
    identities: Sequence[Fields], fields: Sequence[str], names: Sequence[str] = ()
) -> list[str]:
    """The names, and the first of some fields that tell more configurations apart than those do."""
    found = list(names)
    parts = len({repr([own.get(n) for n in found]) for own in identities})
    for name in fields:
        split = len({repr([own.get(n) for n in (*found, name)]) for own in identities})
        if split > parts:
            found.append(name)
            parts = split
    return found


def part(name: str, value: Any) -> str:
    """What a label says of a field."""
    return f"{name.replace('_', '-')}={shown(name, value)}"


def field(word: str) -> str:
    """The field that a word of a label speaks of."""
    return word.partition("=")[0]


def shown(name: str, value: Any) -> str:
    """A field's value as a label has it."""
    if name == "goal_seed" and value is None:
        return "own"
    if value is None or value == "":
        return "unknown"
    if isinstance(value, tuple):
        return "/".join(str(part) for part in value)
    return str(value).replace("-v3", "").replace(" ", "_")

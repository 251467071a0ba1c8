"""What `sweep` and `status` are asked: how to carry out which runs. Knows nothing of torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple

from algorithms.fields import Range
from suite.messages import UserError, choose
from suite.options import split, values_of
from suite.sweeps.grid_file import fields_of, has_commas
from suite.sweeps.plan import EXCLUDED, Axes, Plan, plan
from suite.values import kinds

HELP_TEXT = """usage: python -m suite sweep [NAME | FILE.toml] [--launcher local] [--dry-run]
                             [--jobs N] [--cores N] [--gpus-per-run F] [--slurm KEY=VALUE,...]
                             [--field value[,value...] ...]
       python -m suite status [NAME | FILE.toml] [--field value[,value...] ...]

Carries out a grid of runs: those of results/sweeps/NAME.toml or of a file, or those of the fields
alone. A field takes several values, separated by commas. Where a value itself has commas, slashes
separate them: task sets, and fields that are tuples (--hidden 32,16/64 is two runs). The fields of
the command line replace those of the file. The plan is printed first; finished runs are skipped,
others resume.

  --launcher      local (this machine), ray (a cluster, or this machine), slurm (an array job)
  --dry-run       print the plan and stop
  --jobs          runs at once; as many as cores and memory allow
  --cores         ray, slurm: cores of a run
  --gpus-per-run  of a run with --device cuda, such as 0.25; local: as many as memory allows
  --slurm         further parameters of the job: slurm_partition=gpu,timeout_min=1440
  --width         one width for the actor and the critics
  --batched       train all seeds of a configuration together, in one process"""


@dataclass(frozen=True)
class Options:
    """How a sweep is carried out. A number of 0 leaves the choice to the suite."""

    launcher: Literal["local", "ray", "slurm"] = "local"
    dry_run: bool = False
    jobs: Annotated[int, Range(0, 10_000)] = 0
    cores: Annotated[int, Range(0, 1024)] = 0
    gpus_per_run: Annotated[float, Range(0, 64)] = 0.0
    slurm: str = ""


class Question(NamedTuple):
    """A sweep, and how it is to be carried out."""

    options: Options
    plan: Plan


def asked(arguments: Sequence[str], here: bool = True) -> Question:
    """The sweep that a command line stands for. Raises UserError in one line.

    `here` is whether its runs may have to fit this machine.
    """
    name, options, axes = read(arguments)
    for option, launchers in (("slurm", ("slurm",)), ("cores", ("ray", "slurm"))):
        if here and getattr(options, option) and options.launcher not in launchers:
            raise UserError(f"{option}: is for --launcher {' or '.join(launchers)}; leave it out")
    here = here and options.launcher == "local" and not options.dry_run
    return Question(options, plan(name, axes, here))


def read(arguments: Sequence[str]) -> tuple[str, Options, Axes]:
    """The sweep's name, empty for none, the options, and the fields of the runs."""
    arguments = list(arguments)
    name = arguments.pop(0) if arguments and not arguments[0].startswith("--") else ""
    given = split(arguments)
    own = kinds(Options)
    mine = {k: v for k, v in given.items() if k.removeprefix("no_") in own}
    options: Any = Options(**values_of(mine, own))
    fields = {k: v for k, v in given.items() if k not in mine}
    if not name and not fields:
        raise UserError("sweep: name one of results/sweeps, or give fields: --alg mtsac,mega")
    types = fields_of(name, fields)
    axes: Axes = {}
    for key, value in fields.items():
        check_known(key, types)
        slashes = has_commas(key, types)
        axes[key] = [None] if value is None else list(value.split("/" if slashes else ","))
    return name, options, axes


def check_known(field: str, types: Mapping[str, Any]) -> None:
    """Raises UserError for what is a field of none of the sweep's runs, nor an option of it."""
    name = field.lower().removeprefix("no_")
    if field not in types and name not in types and name not in EXCLUDED:
        names = [n.replace("_", "-") for n in (*types, *kinds(Options)) if n not in EXCLUDED]
        hint = "the fields that --help lists"
        raise UserError(choose("field", field.replace("_", "-"), names, hint))

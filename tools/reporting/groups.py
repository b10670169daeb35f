"""Groups of runs that differ only in the seed, and statistics over them."""

import json
import re
import statistics
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tools.reporting.runs import IGNORED_FLAGS, RUN_SPECIFIC_FLAGS, Run


class Group(NamedTuple):
    """Runs that differ only in the seed, the lowest seed first."""

    name: str
    runs: list[Run]

    @property
    def tested_runs(self) -> list[Run]:
        return [run for run in self.runs if run.scores]


class Spread(NamedTuple):
    """Mean and sample standard deviation over some runs. Both are NaN without values, the deviation also for a single value."""

    mean: float
    deviation: float
    runs: int  # with a value

    def text(self, digits: int) -> str:
        """Return text such as 29.31 ± 0.12; the mean alone for a single value, and - without values."""
        if self.runs == 0:
            return "-"
        return f"{self.mean:.{digits}f}" + (f" ± {self.deviation:.{digits}f}" if self.runs > 1 else "")


def spread(values: Sequence[float | None]) -> Spread:
    """Return the spread of the finite values."""
    finite = [value for value in values if value is not None and np.isfinite(value)]
    if not finite:
        return Spread(float("nan"), float("nan"), 0)
    return Spread(statistics.mean(finite), statistics.stdev(finite) if len(finite) > 1 else float("nan"), len(finite))


def group_runs(runs: list[Run]) -> list[Group]:
    """Return groups of runs that differ only in the seed, in the order of their first runs."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(json.dumps(run.settings, sort_keys=True), []).append(run)
    members = [sorted(group, key=lambda run: run.seed) for group in groups.values()]
    names = [group_name([run.name for run in group]) for group in members]
    # Groups of runs named 1, 2, 3 could share a name.
    unique = [name if names.count(name) == 1 else f"{name} ({group[0].name})" for name, group in zip(names, members)]
    return [Group(name, group) for name, group in zip(unique, members)]


def add_compared_flags(runs: list[Run]) -> list[Run]:
    """Return the runs with their `compared_flags`: flags that are ignored otherwise, such as amp or compile.

    If runs have the same settings and the same seed, they compare the flags in which they still differ.
    """
    compared: set[str] = set()
    for group in group_runs(runs):
        for seed in {run.seed for run in group.runs}:
            flags_of_runs = [run.flags for run in group.runs if run.seed == seed]
            for name in IGNORED_FLAGS - RUN_SPECIFIC_FLAGS:
                if len({json.dumps(flags.get(name)) for flags in flags_of_runs}) > 1:
                    compared.add(name)
    return [run._replace(compared_flags=frozenset(compared)) for run in runs]


def group_name(names: list[str]) -> str:
    """Return the common prefix of the names of runs without "seed" at its end: cyclical for cyclical_seed1 and cyclical_seed2."""
    if len(names) == 1:
        return names[0]
    common = names[0]
    while not all(name.startswith(common) for name in names):
        common = common[:-1]
    common = re.sub(r"([-_./ ]s|[-_./ ]*seed)?[-_=./ ]*\d*$", "", common, flags=re.IGNORECASE)
    return common or f"{names[0]} and {len(names) - 1} more"


def split_settings(groups: list[Group]) -> tuple[list[str], list[str]]:
    """Return the names of the settings that differ between groups, and of those that are the same in all."""
    settings = [group.runs[0].settings for group in groups]
    names = list(dict.fromkeys(name for one in settings for name in one))
    same = [name for name in names if all(name in one and one[name] == settings[0].get(name) for one in settings)]
    return [name for name in names if name not in same], same

"""What benchmarks found: samples, what they are compared with, a table and JSON."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

SHOWN_WITH_DECIMALS = 100  # from here on a whole number tells enough


@dataclass(frozen=True, slots=True)
class Goal:
    """What a case should reach, in the unit of its samples, or as a ratio to its baseline."""

    limit: float
    is_ratio: bool = False

    def __str__(self) -> str:
        return f"<= {self.limit:g} x" if self.is_ratio else f"< {self.limit:g}"


@dataclass(frozen=True, slots=True)
class Samples:
    """Measurements of one thing, in the order in which they were taken.

    Attributes:
        values: in the unit of the result that they belong to.
        cpu_s: CPU seconds that each took; empty if not measured.
    """

    values: Sequence[float]
    cpu_s: Sequence[float] = ()

    @property
    def median(self) -> float:
        return median(self.values)


@dataclass(frozen=True, slots=True)
class Result:
    """One case.

    Attributes:
        case: its name.
        what: is measured, from when to when.
        compared_with: what *baseline* is of; empty if there is nothing to compare with.
        baseline: taken in the same run, in turns with the samples.
        goal: None if the case is only shown.
        swarm: what Docker Swarm was measured to take, in *unit*; None if it was not.
        notes: more numbers of the same runs, such as how far the tasks were when.
    """

    case: str
    what: str
    samples: Samples
    unit: str = "s"
    compared_with: str = ""
    baseline: Samples | None = None
    goal: Goal | None = None
    swarm: float | None = None
    notes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ratio(self) -> float | None:
        """The median over the baseline's."""
        return self.samples.median / self.baseline.median if self.baseline else None

    @property
    def cpu_ratio(self) -> float | None:
        """The median of the CPU time over the baseline's."""
        if self.baseline is None or not (self.samples.cpu_s and self.baseline.cpu_s):
            return None
        return median(self.samples.cpu_s) / median(self.baseline.cpu_s)

    @property
    def is_met(self) -> bool | None:
        """Whether the goal is reached; None if there is none."""
        if self.goal is None:
            return None
        value = self.ratio if self.goal.is_ratio else self.samples.median
        return value is not None and value <= self.goal.limit


def as_json(result: Result, machine: Mapping[str, Any]) -> dict[str, Any]:
    """Return the result as an object whose keys name their units."""
    unit, samples = result.unit, result.samples
    baseline = result.baseline or Samples(())
    return {
        "case": result.case,
        "what": result.what,
        f"samples_{unit}": _rounded(samples.values),
        f"min_{unit}": round(min(samples.values), 4),
        f"median_{unit}": round(samples.median, 4),
        "cpu_samples_s": _rounded(samples.cpu_s),
        "baseline": result.compared_with or None,
        f"baseline_samples_{unit}": _rounded(baseline.values),
        "baseline_cpu_samples_s": _rounded(baseline.cpu_s),
        "ratio": None if result.ratio is None else round(result.ratio, 4),
        "cpu_ratio": None if result.cpu_ratio is None else round(result.cpu_ratio, 4),
        "goal": None if result.goal is None else str(result.goal),
        "is_met": result.is_met,
        f"swarm_{unit}": result.swarm,
        "notes": dict(result.notes),
        "machine": dict(machine),
    }


def write(path: Path, results: Sequence[Result], about: Mapping[str, Any]) -> None:
    """Write all of it as a list of objects, one for each result."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([as_json(result, about) for result in results], indent=2) + "\n")


def table(results: Sequence[Result]) -> str:
    """Return one line for each result."""
    head = ("case", "median", "min", "max", "baseline", "ratio", "CPU", "goal", "", "Swarm")
    rows = [head, *map(_row, results)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    lines = []
    for first, *others in rows:
        cells = [text.rjust(width) for text, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *cells]).rstrip())
    return "\n".join(lines)


def _row(result: Result) -> tuple[str, ...]:
    values = result.samples.values
    return (
        result.case,
        f"{_number(result.samples.median)} {result.unit}",
        _number(min(values)),
        _number(max(values)),
        _number(result.baseline.median) if result.baseline else "",
        _times(result.ratio),
        _times(result.cpu_ratio),
        "" if result.goal is None else str(result.goal),
        {None: "", True: "met", False: "MISSED"}[result.is_met],
        "" if result.swarm is None else _number(result.swarm),
    )


def _times(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.2f} x"


def _number(value: float) -> str:
    return f"{value:.2f}" if value < SHOWN_WITH_DECIMALS else f"{value:.0f}"


def _rounded(values: Sequence[float]) -> list[float]:
    return [round(value, 4) for value in values]

"""Runs the checks and the tests, part by part, all of them even if some fail.

Ends with what each part took and how it went, and the sum of all tests.
"""

import argparse
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scripts.lib import environment
from scripts.lib.setup import prepare
from scripts.lib.steps import TREE, Step, Steps, timed

PYTEST_NO_TESTS = 5
"""pytest's exit code when it collected nothing."""

SUMMARY = re.compile(r"^(?:\x1b\[[\d;]*m)*=+ (?P<summary>.*\d+ [a-z].* in [\d.]+s.*?) =+")
COUNT = re.compile(r"(?P<number>\d+) (?P<outcome>passed|failed|errors?|skipped|xfailed|xpassed)")
COLOUR = re.compile(r"\x1b\[[\d;]*m")


@dataclass(frozen=True, slots=True)
class Part:
    """A folder of tests. Those that start daemons have the machine to themselves, in turn."""

    name: str
    parallel: bool
    what: str


PARTS = (
    Part("unit", parallel=True, what="pure code, milliseconds each"),
    Part("property", parallel=True, what="what must hold for any input"),
    Part("contract", parallel=False, what="fakes and real services behind one interface"),
    Part("simulation", parallel=True, what="the whole cluster on a virtual clock"),
    Part("integration", parallel=False, what="real etcd, real dockerd, the lab"),
    Part("e2e", parallel=False, what="several real hosts, start to end"),
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a part went. *counts* is by pytest's words: passed, failed, skipped ..."""

    step: Step
    passed: bool
    summary: str
    counts: Counter[str]


def main(arguments: Sequence[str]) -> int:
    parts = "\n".join(f"  {part.name:12} {part.what}" for part in PARTS)
    parser = argparse.ArgumentParser(
        prog="scripts/test",
        description=f"{__doc__}\n  {'check':12} format, lint, types, imports, generated code\n{parts}",
        epilog="After --, arguments for pytest: scripts/test unit -- -x -k parse",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = ["check", *(part.name for part in PARTS)]
    parser.add_argument("part", nargs="*", choices=[*names, "all"], default="all")
    own, pytest_arguments = split(list(arguments))
    asked = parser.parse_args(own).part
    wanted = [name for name in names if "all" in asked or name in asked]

    prepare(Steps(), with_tests=True)
    outcomes = []
    for name in wanted:
        print(f"\n───── {name} ─────", flush=True)
        if name == "check":
            outcomes.append(_check())
        else:
            part = next(part for part in PARTS if part.name == name)
            outcomes.append(run_pytest(part, pytest_arguments))
    return _report(outcomes)


def split(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Return what stands before and after ``--``."""
    at = arguments.index("--") if "--" in arguments else len(arguments)
    return arguments[:at], arguments[at + 1 :]


def _check() -> Outcome:
    step = Step("check")
    with timed(step):
        done = subprocess.run(["make", "--no-print-directory", "check"], cwd=TREE, check=False)
    return Outcome(step, done.returncode == 0, "", Counter())


def run_pytest(
    part: Part,
    arguments: Sequence[str],
    tree: Path = TREE,
    python: Path = environment.PYTHON,
) -> Outcome:
    """Run the tests of *part*, show what pytest says, and return how it went."""
    step = Step(part.name)
    if not any((tree / "tests" / part.name).rglob("test_*.py")):
        return Outcome(step, passed=True, summary="has no tests yet", counts=Counter())
    argv = [str(python), "-m", "pytest", f"tests/{part.name}", *arguments]
    if part.parallel:
        argv += ["-n", str(os.cpu_count() or 1)]
    if sys.stdout.isatty():
        argv.append("--color=yes")
    summary = ""
    with timed(step), _output_of(argv, tree) as running:
        assert running.stdout is not None
        for line in running.stdout:
            print(line, end="", flush=True)
            if found := SUMMARY.match(line):
                summary = COLOUR.sub("", found["summary"])
    counts = counted(summary)
    if counts["skipped"]:
        summary += " - a skipped test counts as failed: it was to be run"
    # Choosing by -k may leave a part without tests; a part that has lost its tests has failed.
    nothing_chosen = running.returncode == PYTEST_NO_TESTS and bool(arguments)
    passed = (running.returncode == 0 or nothing_chosen) and not counts["skipped"]
    return Outcome(step, passed, summary, counts)


def _output_of(argv: Sequence[str], tree: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(argv, cwd=tree, stdout=subprocess.PIPE, text=True, errors="replace")


def counted(summary: str) -> Counter[str]:
    """Return the numbers in pytest's last line by their words, in the singular."""
    plain = COLOUR.sub("", summary)
    return Counter(
        {
            found["outcome"].removesuffix("s"): int(found["number"])
            for found in COUNT.finditer(plain)
        }
    )


def _report(outcomes: Sequence[Outcome]) -> int:
    print()
    for outcome in outcomes:
        word = "ok" if outcome.passed else "FAILED"
        step = outcome.step
        print(f"{word:6}  {step.name:12} {step.seconds:6.1f} s  {outcome.summary}")
    totals = sum((outcome.counts for outcome in outcomes), Counter[str]())
    failed = totals["failed"] + totals["error"] + totals["skipped"]
    print(f"{totals['passed'] + totals['xfailed']} passed, {failed} failed")
    return 0 if all(outcome.passed for outcome in outcomes) else 1

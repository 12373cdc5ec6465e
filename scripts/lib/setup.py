"""Installs what is missing: the distribution's packages, then the virtual environment."""

import argparse
from collections.abc import Sequence

from scripts.lib import environment, machine
from scripts.lib.steps import Steps


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="scripts/setup", description=__doc__)
    parser.add_argument(
        "--for",
        dest="purpose",
        choices=["tests", "run"],
        default="tests",
        help="what should work afterwards; 'run' leaves out what only tests and checks need",
    )
    with_tests = parser.parse_args(arguments).purpose == "tests"
    if not prepare(Steps(), with_tests=with_tests):
        print("nothing is missing")
    return 0


def prepare(steps: Steps, *, with_tests: bool) -> bool:
    """Install what is missing and tell whether anything was. Takes milliseconds if not."""
    lacking = machine.missing(machine.TO_TEST if with_tests else machine.TO_RUN)
    if lacking:
        with steps.step("packages of the distribution") as step:
            step.note = " ".join(machine.install(lacking))
    if environment.is_current(with_tests=with_tests):
        return bool(lacking)
    environment.make(steps, with_tests=with_tests)
    return True

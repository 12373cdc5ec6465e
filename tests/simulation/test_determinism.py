"""One seed is one story, wherever and whenever it is told."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.simulator.simulation import Scale, simulate

TREE = Path(__file__).parents[2]
SEED = 11
SMALL = Scale(managers=3, agents=6, hours=0.15)


PYTHONS = ("python3", "/usr/bin/python3", "/usr/local/bin/python3")


def trace_with(*, hash_seed: int, python: str = sys.executable) -> bytes:
    command = ["-m", "tests.simulator", "--seed", str(SEED), "--trace", "--hours", "0.15"]
    packages = sysconfig.get_path("purelib")
    done = subprocess.run(
        [python, *command, "--agents", "6"],
        cwd=TREE,
        env={**os.environ, "PYTHONHASHSEED": str(hash_seed), "PYTHONPATH": packages},
        capture_output=True,
        check=True,
    )
    trace, _, _ = done.stdout.rpartition(b"\nseed ")  # what follows tells how long it took
    return trace


def version_of(python: str) -> tuple[int, ...]:
    asking = "import sys; print(*sys.version_info[:3])"
    try:
        said = subprocess.run([python, "-c", asking], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ()
    return tuple(map(int, said.stdout.split()))


def pythons() -> list[str]:
    """Return ours, and others of the same minor version: they can load the same packages."""
    ours = sys.version_info[:3]
    others = [each for each in PYTHONS if version_of(each)[:2] == ours[:2]]
    return [sys.executable, *(each for each in others if version_of(each) != ours)]


@pytest.mark.parametrize("python", pythons())
def test_the_trace_is_the_same_under_another_hash_seed_and_patch_version(python: str) -> None:
    one, other = trace_with(hash_seed=1), trace_with(hash_seed=2, python=python)
    assert one.count(b"\n") > 500
    assert one == other


def test_the_trace_is_the_same_in_one_process_after_others() -> None:
    first = simulate(SEED, SMALL)
    simulate(SEED + 1, SMALL)
    again = simulate(SEED, SMALL)
    assert first.trace == again.trace


def test_another_seed_is_another_story() -> None:
    assert simulate(SEED, SMALL).trace != simulate(SEED + 1, SMALL).trace


def test_messages_are_not_changed_after_they_were_sent() -> None:
    """Handing messages over as they are tells the same story as encoding each of them."""
    assert simulate(SEED, SMALL).trace == simulate(SEED, SMALL, copies=True).trace

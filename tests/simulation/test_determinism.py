"""One seed is one story, wherever and whenever it is told."""

import os
import subprocess
import sys
from pathlib import Path

from tests.simulator.simulation import Scale, simulate

TREE = Path(__file__).parents[2]
SEED = 11
SMALL = Scale(managers=3, agents=6, hours=0.15)


def trace_with(hash_seed: int) -> bytes:
    command = ["-m", "tests.simulator", "--seed", str(SEED), "--trace", "--hours", "0.15"]
    done = subprocess.run(
        [sys.executable, *command, "--agents", "6"],
        cwd=TREE,
        env={**os.environ, "PYTHONHASHSEED": str(hash_seed)},
        capture_output=True,
        check=True,
    )
    trace, _, _ = done.stdout.rpartition(b"\nseed ")  # what follows tells how long it took
    return trace


def test_the_trace_is_the_same_under_another_hash_seed() -> None:
    one, other = trace_with(1), trace_with(2)
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

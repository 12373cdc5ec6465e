"""Measures Docker Swarm and us in one lab, in turns: ``python -m tests.bench.swarm``.

Both run on the same three hosts, on the same engines, at the same time; whoever is not asked has
nothing to run. Prints every sample as it is taken, then a table, in which the baseline and the
ratio are Swarm's, and writes all of it to ``build/bench/swarm.json``.
"""

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from time import monotonic

from scripts.lib.steps import TREE
from tests.bench import machine, report
from tests.bench.cases import CASES, FEW, MANY, Taken
from tests.bench.direct import Direct
from tests.bench.report import Result
from tests.bench.rig import BRIDGE, NEXT, Rig, rig
from tests.bench.swarm_cluster import SwarmCluster

OUTPUT = TREE / "build" / "bench" / "swarm.json"

RUNS, RUNS_QUICK = 3, 1

SwarmCase = Callable[[SwarmCluster], float]


def main(arguments: Sequence[str]) -> int:
    """Run what was asked for; return the exit code."""
    options = _options(arguments)
    if os.geteuid() != 0:
        print("bench-swarm: needs root, for the lab's network namespaces", file=sys.stderr)
        return 1
    runs = options.runs or (RUNS_QUICK if options.quick else RUNS)
    about = machine.describe()
    print(", ".join(f"{name} {value}" for name, value in about.items()), flush=True)
    with rig(Direct(), 1, _say) as ours, SwarmCluster(ours.hosts) as swarm:
        results = [_measure(name, runs, ours, swarm) for name in options.cases]
    about |= {"load_1_minute_after": round(os.getloadavg()[0], 2)}
    report.write(options.output, results, about)
    print(f"\n{report.table(results)}\n\nwritten to {options.output}")
    return 0


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/bench-swarm",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"cases: {', '.join(SWARM_CASES)}",
    )
    parser.add_argument("--cases", type=_chosen, default=list(SWARM_CASES), help="[all]")
    parser.add_argument("--runs", type=int, help=f"samples of each case [{RUNS}]")
    parser.add_argument("--quick", action="store_true", help="one sample of each")
    parser.add_argument("--output", type=Path, default=OUTPUT, help=f"[{OUTPUT}]")
    return parser.parse_args(arguments)


def _chosen(text: str) -> list[str]:
    chosen = text.split(",")
    if unknown := [name for name in chosen if name not in SWARM_CASES]:
        raise argparse.ArgumentTypeError(f"no case {', '.join(unknown)}")
    return chosen


def _measure(name: str, runs: int, ours: Rig, swarm: SwarmCluster) -> Result:
    """Measure both in turns; who is first changes, so that a drift of the machine favours none."""
    print(f"\n{name}", flush=True)
    our_samples, swarm_samples = Taken(), Taken()
    shown: list[Result] = []

    def measure_us() -> None:
        [result] = CASES[name](ours)
        shown.append(result)
        our_samples.take(*_only(result.samples.values), *_only(result.samples.cpu_s))

    def measure_swarm() -> None:
        used = ours.cpu_meter()
        sample = swarm_samples.take(SWARM_CASES[name](swarm), used())
        _say(f"{sample}, Swarm")

    for number in range(runs):
        first, second = (measure_us, measure_swarm) if number % 2 else (measure_swarm, measure_us)
        first()
        second()
    return replace(
        shown[0],
        samples=our_samples.samples,
        compared_with="Docker Swarm on the same hosts",
        baseline=swarm_samples.samples,
        goal=None,
        swarm=None,
    )


def _only(values: Sequence[float]) -> Sequence[float]:
    [value] = values
    return (value,)


def _say(what: str) -> None:
    print(f"  {what}", flush=True)


# --- what Swarm is asked to do: each returns the seconds that it took, and leaves nothing ---


def _start(network: str, swarm: SwarmCluster) -> float:
    with swarm.service(BRIDGE.container.image, MANY, network) as began_at:
        return swarm.wait_running(MANY) - began_at


def _kill_a_container(swarm: SwarmCluster) -> float:
    with swarm.service(BRIDGE.container.image, FEW):
        swarm.wait_running(FEW)
        began_at = monotonic()
        killed = swarm.kill_one()
        return swarm.wait_running(FEW, without=killed) - began_at


def _update(parallelism: int, swarm: SwarmCluster) -> float:
    with swarm.service(BRIDGE.container.image, FEW):
        swarm.wait_running(FEW)
        began_at = monotonic()
        swarm.update(NEXT.container.image, parallelism)
        return swarm.wait_running(FEW, image=NEXT.container.image) - began_at


def _drain(swarm: SwarmCluster) -> float:
    with swarm.service(BRIDGE.container.image, MANY):
        swarm.wait_running(MANY)
        with swarm.drained() as (began_at, node_id):
            return swarm.wait_running(MANY, off=node_id) - began_at


SWARM_CASES: Mapping[str, SwarmCase] = {
    "start-bridge": partial(_start, ""),
    "start-host": partial(_start, "host"),
    "container-killed": _kill_a_container,
    "update-2": partial(_update, 2),
    "update-10": partial(_update, 10),
    "drain": _drain,
}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

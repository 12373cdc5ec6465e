"""Measures how tightly the scheduler packs: ``python -m tests.bench.scheduler_packing``.

Each suite is packed by the scheduler, all tasks together (batch) and one after the other
(online), and by simpler ways. Shown is how many nodes more each uses than the volume bound: the
nodes that it would take if tasks could be cut up. Where tasks cannot be combined well (U[0,1]),
no layout comes near it. Then the nodes in use of a cluster that is loaded in part. Prints tables
and writes ``build/bench/packing.json``.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from cluster.constraints import NodeFacts
from cluster.model import NodeId, ServiceId, Strategy, TaskId
from cluster.resources import Resources
from scheduler import Demand, Group, NodeSnapshot, Snapshot, place
from scheduler.board import Board
from scheduler.fill import choose
from scripts.lib.steps import TREE
from tests.bench import machine
from tests.bench.scheduler_baselines import ONE_BY_ONE, log2_sampling, used_by
from tests.bench.scheduler_suites import SEEDS, UNIT, Sizes, synthetic, trace

OUTPUT = TREE / "build" / "bench" / "packing.json"
BATCH, ONLINE, LOG2 = "batch", "online", "log2 sampling"
WAYS = (BATCH, ONLINE, *ONE_BY_ONE, LOG2)

GOALS = {2: 4.0, 3: 6.5}  # per cent above the bound, of the batch
LOADED_NODES, LOAD = 1_000, 0.2
LESS_THAN_LOG2 = 0.25


def main(arguments: Sequence[str]) -> int:
    """Measure; return the exit code."""
    options = _options(arguments)
    about = machine.describe()
    print(", ".join(f"{name} {value}" for name, value in about.items()), "\n", flush=True)
    print("nodes above the volume bound, per cent, mean of the seeds")
    print(" ".join([f"{'suite':14}", *(f"{way:>15}" for way in WAYS)]), flush=True)
    results = [_gaps(name, *suite) for name, suite in _suites(options).items()]
    print(f"\nnodes in use of {LOADED_NODES}, of which the tasks would fill {LOAD:.0%}")
    results += [_loaded(dimensions, options.seeds) for dimensions in GOALS]
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps([r | {"machine": about} for r in results], indent=2))
    print(f"\nwritten to {options.output}")
    return 0


Suite = tuple[list[Sizes], float | None]  # by seed, and the goal for the batch


def _suites(options: argparse.Namespace) -> Mapping[str, Suite]:
    found: dict[str, Suite] = {}
    for dimensions, goal in GOALS.items():
        for seed in range(options.seeds):
            for name, sizes in synthetic(dimensions, seed):
                limit = None if name == "U[0,1]" else goal
                found.setdefault(f"{dimensions}-D {name}", ([], limit))[0].append(sizes)
    if not options.no_trace:
        sizes, instances = trace()
        found["trace"] = [np.repeat(sizes, instances, axis=0)], None
    return found


def _gaps(name: str, seeds: Sequence[Sizes], goal: float | None) -> dict[str, Any]:
    samples: dict[str, list[float]] = {way: [] for way in WAYS}
    for seed, sizes in enumerate(seeds):
        bound = volume_bound(sizes)
        used = _used(sizes, 2 * bound, seed)
        for way in WAYS:
            samples[way].append(100 * (used[way] / bound - 1))
    means = {way: mean(values) for way, values in samples.items()}
    met = "" if goal is None else f"  batch <= {goal:g}: {_said(means[BATCH] <= goal)}"
    others = min(means[way] for way in WAYS[2:])
    met += f"  online below all: {_said(means[ONLINE] < others)}"
    print(f"{name:14} {' '.join(f'{means[way]:15.2f}' for way in WAYS)}{met}", flush=True)
    return {
        "case": name,
        "unit": "per cent above the volume bound",
        "samples": samples,
        "mean": means,
        "goal": goal,
        "is_met": None if goal is None else means[BATCH] <= goal,
        "online_is_below_all": means[ONLINE] < others,
    }


def _loaded(dimensions: int, seeds: int) -> dict[str, Any]:
    samples: dict[str, list[float]] = {way: [] for way in WAYS}
    for seed in range(seeds):
        _, sizes = next(iter(synthetic(dimensions, seed)))
        count = int(np.searchsorted(np.cumsum(sizes.max(axis=1)), LOAD * LOADED_NODES * UNIT))
        used = _used(sizes[:count], LOADED_NODES, seed)
        for way in WAYS:
            samples[way].append(used[way])
    means = {way: mean(values) for way, values in samples.items()}
    fewer = 1 - means[ONLINE] / means[LOG2]
    print(
        f"{dimensions}-D U[.02,.5]  {' '.join(f'{means[way]:15.1f}' for way in WAYS)}"
        f"  online {fewer:.0%} below log2 sampling: {_said(fewer >= LESS_THAN_LOG2)}",
        flush=True,
    )
    return {
        "case": f"{dimensions}-D nodes in use at {LOAD:.0%}",
        "unit": "nodes",
        "samples": samples,
        "mean": means,
        "goal": LESS_THAN_LOG2,
        "is_met": fewer >= LESS_THAN_LOG2,
    }


def volume_bound(sizes: Sizes) -> int:
    """Return how many nodes it would take if tasks could be cut up."""
    return int(-(-sizes.sum(axis=0).max() // UNIT))


def _used(sizes: Sizes, nodes: int, seed: int) -> dict[str, int]:
    """Return how many nodes each way uses."""
    # Least allocated and sampling need a fixed number of nodes; more than enough for all.
    used = {name: used_by(sizes, nodes, score) for name, score in ONE_BY_ONE.items()}
    used[LOG2] = log2_sampling(sizes, nodes, seed)
    used[BATCH] = _batch(sizes, nodes)
    used[ONLINE] = _online(sizes, nodes)
    return used


def _batch(sizes: Sizes, nodes: int) -> int:
    groups = [Group(demand, (TaskId(f"t{n}"),)) for n, demand in enumerate(_demands(sizes))]
    plan = place(_cluster(sizes, nodes), groups)
    assert len(plan.placements) == len(sizes)
    return len(set(plan.placements.values()))


def _online(sizes: Sizes, nodes: int) -> int:
    board = Board(_cluster(sizes, nodes))
    rows = [choose(board, demand, 1, Strategy.BINPACK) for demand in _demands(sizes)]
    return len(np.unique(np.concatenate(rows)))


def _demands(sizes: Sizes) -> list[Demand]:
    return [
        Demand(ServiceId(f"s{number}"), _resources(size))
        for number, size in enumerate(sizes.tolist())
    ]


def _cluster(sizes: Sizes, nodes: int) -> Snapshot:
    capacity = _resources([UNIT] * sizes.shape[1])
    return Snapshot.of(
        NodeSnapshot(NodeFacts(NodeId(f"n{number:05}")), capacity=capacity)
        for number in range(nodes)
    )


def _resources(size: Sequence[int]) -> Resources:
    cpu, memory, *others = size
    generic = {f"kind{number}": amount for number, amount in enumerate(others)}
    return Resources(cpu_nanos=cpu, memory_bytes=memory, generic=generic)


def _said(met: bool) -> str:
    return "met" if met else "MISSED"


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/bench-packing",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seeds", type=int, default=SEEDS, help=f"of each suite [{SEEDS}]")
    parser.add_argument("--no-trace", action="store_true", help="do not fetch the real trace")
    parser.add_argument("--output", type=Path, default=OUTPUT, help=f"[{OUTPUT}]")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

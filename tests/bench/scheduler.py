"""Measures the scheduler's decisions alone: ``python -m tests.bench.scheduler``.

One process, no store, no agents: what is timed is a call of the scheduler, on columns that are
filled and for classes that it has not seen. Each case runs in a process of its own, so that its
peak of memory is its own. Prints a table and writes ``build/bench/scheduler.json``.
"""

import argparse
import gc
import json
import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Any

from scripts.lib.steps import TREE
from tests.bench import machine
from tests.bench.scheduler_cases import Case, cases

OUTPUT = TREE / "build" / "bench" / "scheduler.json"
RUNS = 5

CAVEAT = """\
Peers: SwarmKit's decisions alone, measured on a machine of this kind (in brackets with a fix
that is known); kube-scheduler's floors in its own continuous integration, on other hardware and
with a whole API server around it: no comparison, only the order of magnitude."""


def main(arguments: Sequence[str]) -> int:
    """Run what was asked for; return the exit code."""
    known = {case.name: case for case in cases()}
    options = _options(arguments, list(known))
    if options.one:
        print(json.dumps(measure(known[options.one], options.runs)))
        return 0
    about = machine.describe()
    print(", ".join(f"{name} {value}" for name, value in about.items()), "\n", flush=True)
    results = []
    for name in options.cases:
        argv = [sys.executable, "-m", "tests.bench.scheduler", "--one", name]
        argv += ["--runs", str(options.runs)]
        done = subprocess.run(argv, cwd=TREE, stdout=subprocess.PIPE, text=True, check=True)
        results.append(json.loads(done.stdout) | {"machine": about})
        print(_line(known[name], results[-1]), flush=True)
    about["load_1_minute_after"] = round(os.getloadavg()[0], 2)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(results, indent=2) + "\n")
    print(f"\n{CAVEAT}\n\nwritten to {options.output}")
    return 0


def measure(case: Case, runs: int) -> dict[str, Any]:
    """Take the samples of one case."""
    samples, cpu = [], []
    for _ in range(runs):
        work = case.prepare()
        gc.collect()
        gc.freeze()  # the fixture is not the scheduler's garbage
        began_at, cpu_before = perf_counter(), process_time()
        decided = work()
        samples.append(perf_counter() - began_at)
        cpu.append(process_time() - cpu_before)
        gc.unfreeze()
        if decided != case.tasks:
            raise RuntimeError(f"{case.name}: {decided} decisions instead of {case.tasks}")
    middle = median(samples)
    return {
        "case": case.name,
        "nodes": case.nodes,
        "tasks": case.tasks,
        "services": case.services,
        "boundary": case.boundary,
        "samples_s": [round(sample, 6) for sample in samples],
        "cpu_samples_s": [round(sample, 6) for sample in cpu],
        "min_s": round(min(samples), 6),
        "median_s": round(middle, 6),
        "placements_per_s": round(case.tasks / middle),
        "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "goal": str(case.goal) if case.goal else None,
        "is_met": _is_met(case, middle),
        "peer_per_s": case.peer or None,
    }


def _is_met(case: Case, middle: float) -> bool | None:
    if case.goal is None:
        return None
    return case.tasks / middle >= case.goal.per_s if case.goal.per_s else middle <= case.goal.s


def _line(case: Case, result: dict[str, Any]) -> str:
    met = {None: "", True: "met", False: "MISSED"}[result["is_met"]]
    return (
        f"{case.name:26} {result['median_s'] * 1e3:10.2f} ms  min {result['min_s'] * 1e3:10.2f}"
        f"  {result['placements_per_s']:>10,}/s  {result['peak_rss_mb']:5} MB"
        f"  {result['goal'] or '':>16} {met:6}  {'peer ' + case.peer if case.peer else ''}"
    ).rstrip()


def _options(arguments: Sequence[str], names: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/bench-scheduler",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"cases: {', '.join(names)}",
    )
    parser.add_argument(
        "--cases",
        type=lambda text: _chosen(text, names),
        default=names,
        help="which, separated by commas [all]",
    )
    parser.add_argument("--runs", type=int, default=RUNS, help=f"samples of each [{RUNS}]")
    parser.add_argument("--output", type=Path, default=OUTPUT, help=f"[{OUTPUT}]")
    parser.add_argument("--one", choices=names, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def _chosen(text: str, names: Sequence[str]) -> list[str]:
    chosen = text.split(",")
    if unknown := [name for name in chosen if name not in names]:
        raise argparse.ArgumentTypeError(f"no case {', '.join(unknown)}")
    return chosen


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

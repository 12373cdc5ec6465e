"""Measures a whole cluster on one machine: ``python -m tests.bench.cluster``.

Prints every sample as it is taken, then a table, and writes all of it to
``build/bench/cluster.json``. Times are never asserted: compare them with the baseline of the
same run, which shares whatever else the machine was doing.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from time import monotonic

from scripts.lib.steps import TREE
from tests.bench import machine, report
from tests.bench.cases import CASES
from tests.bench.direct import THREADS_PER_HOST, Direct
from tests.bench.idle import idle_agents
from tests.bench.report import Result
from tests.bench.rig import rig

OUTPUT = TREE / "build" / "bench" / "cluster.json"
IDLE = "idle-agents"

RUNS, RUNS_QUICK = 5, 1
IDLE_RUNS = 1
"""Its thirty seconds are an average already."""

IDLE_SECONDS, IDLE_SECONDS_QUICK = 30.0, 5.0


def main(arguments: Sequence[str]) -> int:
    """Run what was asked for; return the exit code."""
    options = _options(arguments)
    if os.geteuid() != 0:
        print("bench-cluster: needs root, for the lab's network namespaces", file=sys.stderr)
        return 1
    runs = options.runs or (RUNS_QUICK if options.quick else RUNS)
    about = machine.describe()
    print(", ".join(f"{name} {value}" for name, value in about.items()), flush=True)
    began_at = monotonic()
    results = _measure(options.cases, runs, Direct(options.threads), quick=options.quick)
    about |= {
        "load_1_minute_after": round(os.getloadavg()[0], 2),
        "whole_run_s": round(monotonic() - began_at),
    }
    report.write(options.output, results, about)
    print(f"\n{report.table(results)}\n\nwritten to {options.output}")
    return 0


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    names = [*CASES, IDLE]
    parser = argparse.ArgumentParser(
        prog="scripts/bench-cluster",
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
    parser.add_argument("--runs", type=int, help=f"samples of each case [{RUNS}]")
    parser.add_argument("--quick", action="store_true", help="one sample of each, idle for 5 s")
    parser.add_argument(
        "--threads",
        type=int,
        default=THREADS_PER_HOST,
        help=f"of the baseline, on each host [{THREADS_PER_HOST}]",
    )
    parser.add_argument("--output", type=Path, default=OUTPUT, help=f"[{OUTPUT}]")
    return parser.parse_args(arguments)


def _chosen(text: str, names: Sequence[str]) -> list[str]:
    chosen = text.split(",")
    if unknown := [name for name in chosen if name not in names]:
        raise argparse.ArgumentTypeError(f"no case {', '.join(unknown)}")
    return chosen


def _measure(names: Sequence[str], runs: int, direct: Direct, *, quick: bool) -> list[Result]:
    results: list[Result] = []
    with_containers = [name for name in CASES if name in names]
    if with_containers:
        with rig(direct, runs, _say) as ready:
            for name in with_containers:
                print(f"\n{name}", flush=True)
                results += CASES[name](ready)
    if IDLE in names:
        print(f"\n{IDLE}", flush=True)
        seconds = IDLE_SECONDS_QUICK if quick else IDLE_SECONDS
        results += idle_agents(IDLE_RUNS, seconds, _say)
    return results


def _say(what: str) -> None:
    print(f"  {what}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Measures what a manager decides by itself: ``python -m tests.bench.decisions``.

Planning a change on 1,000 nodes with 1,000 services, and what the journal costs when 1,000 tasks
come up. In one process, without etcd and Docker: what is measured is the manager's own work.
Prints every sample, then a table, and writes it all to ``build/bench/decisions.json``.
"""

import argparse
import asyncio
import json
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter, process_time

from cluster.clock import SystemClock
from cluster.ids import IdSource
from cluster.model import (
    Cluster,
    ClusterId,
    ContainerSpec,
    ManagerId,
    Node,
    NodeDescription,
    NodeId,
    NodeState,
    NodeStatus,
    Object,
    Service,
    ServiceId,
    ServiceSpec,
    ServiceVersion,
    Session,
    SessionId,
    Stack,
    StackId,
    Task,
    TaskId,
    TaskSpec,
    TaskState,
    TaskStatus,
)
from cluster.resources import Resources
from manager.control.access import Access
from manager.control.usage import Usages
from manager.forecast.desk import Forecasts, Trial
from manager.forecast.outcome import Outcome
from manager.journal.writer import Journal
from manager.rpc.peers import GrpcPeers
from manager.rpc.transport import GrpcTransport
from manager.store.memory import MemoryStore
from manager.view import View
from scheduler import Demand, PendingTask, group, place, snapshot_of
from scripts.lib.steps import TREE
from tests.bench import machine
from tests.bench.journal import Amplification, bring_up
from tests.bench.report import Goal, Result, Samples, as_json, table

OUTPUT = TREE / "build" / "bench" / "decisions.json"
NODES = SERVICES = 1_000
RUNS, RUNS_QUICK = 5, 1
CHANGED = {"plan-a-stack": 20, "plan-everything": SERVICES}


def spec(number: int, image: str) -> ServiceSpec:
    return ServiceSpec(
        name=f"big_s{number}",
        stack="big",
        task=TaskSpec(
            container=ContainerSpec(image=image),
            reservations=Resources(
                cpu_nanos=(1 + number % 7) * 10**8, memory_bytes=(1 + number % 5) << 26
            ),
        ),
    )


def cluster() -> View:
    """Return a cluster in which each service runs once, all over the nodes."""
    objects: list[Object] = [Cluster(id=ClusterId("c")), Stack(id=StackId("big"), name="big")]
    for number in range(NODES):
        node_id = NodeId(f"n{number:024d}")
        description = NodeDescription(
            hostname=f"n{number}", capacity=Resources(cpu_nanos=8 * 10**9, memory_bytes=16 << 30)
        )
        status = NodeStatus(state=NodeState.READY)
        objects.append(Node(id=node_id, description=description, status=status))
        objects.append(Session(id=SessionId(""), node_id=node_id, manager_id=ManagerId("m")))
    for number in range(SERVICES):
        service_id, wanted = ServiceId(f"s{number:024d}"), spec(number, "app:1")
        objects += [
            Service(id=service_id, spec=wanted),
            ServiceVersion(service_id=service_id, number=1, spec=wanted),
            Task(
                id=TaskId(f"t{number:024d}"),
                service_id=service_id,
                spec_version=1,
                slot=1,
                node_id=NodeId(f"n{number % NODES:024d}"),
                status=TaskStatus(state=TaskState.RUNNING),
            ),
        ]
    view = View()
    view.supposed(1, objects, ())
    view.revision = 1
    return view


def plan_seconds(view: View, changed: int) -> tuple[float, float]:
    """Return how long it takes to plan another image for so many services, and of CPU time."""
    clock, source = SystemClock(), random.Random(1)
    own = ManagerId("m")
    access = Access(MemoryStore(), view, Journal(view, clock, IdSource(source), own))
    usages = Usages(view, own, list, GrpcPeers(GrpcTransport(None)))
    forecasts = Forecasts(access, usages, clock, source)
    wanted = [spec(number, "app:2" if number < changed else "app:1") for number in range(SERVICES)]

    async def deploy(trial: Trial) -> object:
        return await trial.stacks.deploy("big", wanted, prune=False)

    async def timed() -> tuple[Outcome, tuple[float, float]]:
        began_at, cpu_began_at = perf_counter(), process_time()
        outcome = (await forecasts.of(deploy)).outcome
        return outcome, (perf_counter() - began_at, process_time() - cpu_began_at)

    found, seconds = asyncio.run(timed())
    if len(found.tasks) != changed or not found.is_complete:
        raise RuntimeError(f"{len(found.tasks)} tasks were planned, not {changed}")
    return seconds


def place_seconds(view: View, changed: int) -> tuple[float, float]:
    """Return how long the scheduler alone takes to place so many tasks, and of CPU time."""

    def spec_of(task: Task) -> ServiceSpec:
        return view.versions[task.service_id, task.spec_version].spec

    snapshot = snapshot_of(view.nodes.values(), view.tasks.values(), spec_of)
    pending = [
        PendingTask(TaskId(f"p{task.id}"), Demand.of(task.service_id, spec_of(task)))
        for task in list(view.tasks.values())[:changed]
    ]
    began_at, cpu_began_at = perf_counter(), process_time()
    place(snapshot, group(pending))
    return perf_counter() - began_at, process_time() - cpu_began_at


def planning(runs: int) -> list[Result]:
    view = cluster()
    results = []
    for case, changed in CHANGED.items():
        planned, placed = [], []
        for _ in range(runs):
            planned.append(plan_seconds(view, changed))
            placed.append(place_seconds(view, changed))
            (seconds, cpu), (alone, _) = planned[-1], placed[-1]
            told = f"{seconds:.3f} s, {cpu:.3f} s of CPU  (placing alone {alone:.3f} s)"
            print(f"{case}  {told}", flush=True)
        results.append(
            Result(
                case=case,
                what=f"a forecast of another image for {changed} of {SERVICES} services on"
                f" {NODES} nodes, from the request to its outcome",
                samples=_samples(planned),
                compared_with="the scheduler's place() of the same tasks in one call",
                baseline=_samples(placed),
                goal=Goal(1.0),
            )
        )
    return results


def _samples(found: Sequence[tuple[float, float]]) -> Samples:
    return Samples([wall for wall, _ in found], [cpu for _, cpu in found])


def journal(runs: int) -> Result:
    found: list[Amplification] = []
    for seed in range(runs):
        found.append(asyncio.run(bring_up(seed)))
        print(f"journal  {found[-1]}", flush=True)
    return Result(
        case="journal",
        what="bytes that the journal writes for each task that comes up, of 1,000 at once",
        samples=Samples([each.journal_bytes / each.tasks for each in found]),
        unit="bytes",
        compared_with="bytes of everything else that is written for it",
        baseline=Samples([each.other_bytes / each.tasks for each in found]),
        notes=found[-1].notes(),
    )


def main(arguments: Sequence[str]) -> int:
    """Run it all; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="scripts/bench-decisions",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="one run of each")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args(arguments)
    runs = RUNS_QUICK if options.quick else RUNS
    results = [*planning(runs), journal(runs)]
    about = machine.describe()
    options.output.parent.mkdir(parents=True, exist_ok=True)
    found = [as_json(result, about) for result in results]
    options.output.write_text(json.dumps(found, indent=2) + "\n")
    print(f"\n{table(results)}\n\nwritten to {options.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

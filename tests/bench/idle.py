"""What a manager uses while a hundred agents have nothing to do but to say that they live."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import sleep

import psutil

from scripts.lib.steps import TREE
from tests.bench.report import Goal, Result, Samples
from tests.bench.rig import in_network_of
from tests.e2e.cluster import LabCluster
from tests.lab.lab import Lab
from tests.lab.waiting import wait_until

AGENTS = 100
SETTLE_SECONDS = 5.0
"""After the last session has begun, until nothing is left of that beginning."""

READY_SECONDS = 60.0
MIB = 2**20


def idle_agents(runs: int, seconds: float, say: Callable[[str], None]) -> list[Result]:
    """Measure the leading manager with 100 agents and, for comparison, with none."""
    shares, sizes, bare_shares, bare_sizes = [], [], [], []
    for _ in range(runs):
        with Lab(hosts=0, controls=2, with_images=False) as lab:
            cluster = _one_manager(lab)
            manager = psutil.Process(cluster.managers[cluster.manager_hosts[0].name].pid)
            with in_network_of(cluster.etcd[cluster.operator.name].pid):
                share, size = _measure(manager, seconds)
                bare_shares.append(share)
                bare_sizes.append(size)
                with _agents(cluster):
                    share, size = _measure(manager, seconds)
                    shares.append(share)
                    sizes.append(size)
        say(f"{shares[-1]:.2f} % of a core, {sizes[-1]:.0f} MiB")
        say(f"{bare_shares[-1]:.2f} % of a core, {bare_sizes[-1]:.0f} MiB without agents")
    what = f"the one manager with {AGENTS} agents that have no tasks, over {seconds:g} s"
    return [
        Result(
            case="idle-agents-cpu",
            what=f"CPU time of {what}",
            samples=Samples(shares),
            unit="percent",
            compared_with="the same manager before the agents came",
            baseline=Samples(bare_shares),
            goal=Goal(3.0),
        ),
        Result(
            case="idle-agents-memory",
            what=f"resident memory of {what}",
            samples=Samples(sizes),
            unit="mib",
            compared_with="the same manager before the agents came",
            baseline=Samples(bare_sizes),
            goal=Goal(150.0),
        ),
    ]


def _one_manager(lab: Lab) -> LabCluster:
    """Start a cluster without hosts, and return when it answers."""
    cluster = LabCluster(lab)
    cluster.start_etcd()
    cluster.start_manager(cluster.manager_hosts[0])
    wait_until(
        lambda: cluster.ctl("cluster", "info", check=False).returncode == 0,
        "the manager answers",
        seconds=READY_SECONDS,
    )
    return cluster


def _measure(process: psutil.Process, seconds: float) -> tuple[float, float]:
    """Return per cent of a core, on average over *seconds*, and MiB in memory after that."""
    sleep(SETTLE_SECONDS)
    process.cpu_percent()  # sets the mark
    sleep(seconds)
    return process.cpu_percent(), process.memory_info().rss / MIB


@contextmanager
def _agents(cluster: LabCluster) -> Iterator[None]:
    folder = cluster.operator.folder / "idle"
    folder.mkdir()
    argv = [sys.executable, "-m", "tests.bench.idle_agents"]
    with subprocess.Popen(
        [*argv, str(AGENTS), str(folder), cluster.endpoints],
        cwd=TREE,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            if line != "ready\n":
                raise RuntimeError(f"the agents did not start: {line!r}")
            yield
        finally:
            process.communicate(timeout=READY_SECONDS)

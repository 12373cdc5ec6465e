"""What the cases work with: a cluster in the lab, somebody who watches it, and a way to ask."""

import compileall
import ctypes
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from cluster.model import ContainerSpec, NetworkMode, ServiceSpec, TaskSpec, UpdateConfig
from clusterctl.client import Client
from scripts.lib.steps import TREE
from tests.bench import cpu
from tests.bench.direct import Direct
from tests.bench.watcher import Watcher, client_of
from tests.e2e.cluster import LabCluster
from tests.lab.docker_host import DockerHost
from tests.lab.images import APP
from tests.lab.lab import Lab

PACKAGES = ("agent", "cluster", "clusterctl", "manager", "scheduler")
HOSTS, MANAGERS = 3, 2
STACK = "bench"
SERVICE = "bench_web"

BRIDGE = TaskSpec(container=ContainerSpec(image=f"{APP}:1"))
"""On Docker's default bridge, as Swarm was measured."""

HOST = TaskSpec(container=ContainerSpec(image=f"{APP}:1"), network_mode=NetworkMode.HOST)

NEXT = TaskSpec(container=ContainerSpec(image=f"{APP}:2"))
"""What ``BRIDGE`` is updated to."""

_UPDATE_DEFAULT = UpdateConfig()
_CLONE_NEWNET = 0x40000000  # of setns(2); Python has it from 3.12 on


@dataclass(frozen=True, slots=True)
class Rig:
    """A cluster that is up, and empty between two samples.

    Attributes:
        client: as the command line uses it, with a connection that is open already.
        direct: starts containers without the cluster.
        runs: samples of each case.
        say: is told each sample as it is taken.
    """

    cluster: LabCluster
    watcher: Watcher
    client: Client
    direct: Direct
    runs: int
    say: Callable[[str], None]

    @property
    def hosts(self) -> Sequence[DockerHost]:
        return self.cluster.docker_hosts

    def cpu_meter(self) -> Callable[[], float]:
        """Return a function that tells the CPU seconds used since now."""
        return cpu.meter(self.cluster.lab.id)

    def submit(
        self, task: TaskSpec, replicas: int, update: UpdateConfig = _UPDATE_DEFAULT
    ) -> float:
        """Deploy one service; return the moment at which it was asked for."""
        spec = ServiceSpec(name=SERVICE, stack=STACK, task=task, replicas=replicas, update=update)
        asked_at = monotonic()
        self.client.deploy(STACK, [spec], prune=False)
        return asked_at

    def run(self, task: TaskSpec, replicas: int) -> None:
        """Deploy one service and wait until it runs."""
        self.submit(task, replicas)
        self.watcher.wait_running(SERVICE, replicas)

    def clear(self) -> None:
        """Remove what was deployed, and wait until no host has anything of it."""
        self.client.remove_stack(STACK)
        self.watcher.wait(lambda view: not view.tasks, "all tasks are gone")
        self.cluster.wait_bare()

    def mend(self) -> None:
        """Start whatever was killed, and remove what was deployed."""
        self.cluster.restore()
        self.clear()


@contextmanager
def rig(direct: Direct, runs: int, say: Callable[[str], None]) -> Iterator[Rig]:
    """Start a cluster in a lab of its own; we are where its operator works.

    All is compiled before, as in any installation: else half of a short command is compiling.
    """
    for package in PACKAGES:
        compileall.compile_dir(TREE / package, quiet=1)
    with Lab(HOSTS, MANAGERS + 1) as lab:
        cluster = LabCluster(lab)
        cluster.start()
        with (
            in_network_of(cluster.etcd[cluster.operator.name].pid),
            Watcher(cluster.endpoints).following() as watcher,
            closing(client_of(cluster.endpoints).caller) as caller,
        ):
            try:
                yield Rig(cluster, watcher, Client(caller), direct, runs, say)
            except Exception as error:
                error.add_note(cluster.logs())
                raise


@contextmanager
def in_network_of(pid: int) -> Iterator[None]:
    """Move this thread, and those that it starts, to the network namespace of a process."""
    own = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        _enter(Path(f"/proc/{pid}/ns/net"))
        try:
            yield
        finally:
            _set_namespace(own)
    finally:
        os.close(own)


def _enter(path: Path) -> None:
    there = os.open(path, os.O_RDONLY)
    try:
        _set_namespace(there)
    finally:
        os.close(there)


def _set_namespace(descriptor: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(descriptor, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "cannot enter a network namespace")

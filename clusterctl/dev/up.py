"""Starts what is missing of a development cluster, and waits until all of it is ready."""

import os
import shutil
import socket
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import psutil

from cluster.errors import ClusterError, InvalidError, NotFoundError, StateError, UnavailableError
from cluster.model import NodeState
from clusterctl.app import App
from clusterctl.dev import docker, plan
from clusterctl.dev.plan import HOST, Plan
from clusterctl.dev.processes import DaemonError

# Several Pythons that start at once on a busy machine of two cores.
READY_SECONDS = 60.0
LOOK_SECONDS = 0.05

# etcd's answer to a question after its health.
HEALTH_SECONDS = 1.0

_SBIN = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"


def default_folder() -> Path:
    """Return where a development cluster is kept unless it is said otherwise."""
    if os.geteuid() == 0:
        return Path("/var/lib/shoal-dev")
    return Path("~/.local/share/shoal-dev").expanduser()


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep others from starting or ending the cluster in *folder* at the same time.

    Raises:
        StateError: somebody is at it.
    """
    import fcntl

    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise StateError(f"another `clusterctl dev` is at work in {folder}") from None
    finally:
        os.close(descriptor)
        with suppress(OSError):
            folder.rmdir()  # if nothing came of it


def choose(folder: Path, *, agents: int | None, port: int | None, docker_address: str) -> Plan:
    """Return the plan of the cluster in *folder*: the one it was started with, or a new one.

    Raises:
        InvalidError: what is asked for does not fit what is there.
        StateError: the port is in use.
    """
    old = plan.load(folder)
    if old is not None:
        if port not in (None, old.port):
            raise InvalidError(
                f"the cluster in {folder} is at port {old.port}: leave --port out, end it with"
                " `clusterctl dev down`, or name another --dir"
            )
        return replace(old, agents=max(old.agents, agents or 0))
    agents = agents or plan.AGENTS
    port = port or plan.PORT
    if not _is_free(port):
        raise StateError(f"port {port} is in use: choose another with --port")
    etcd_port = next(
        (
            p
            for p in range(plan.ETCD_PORT, plan.ETCD_PORT + 200, 2)
            if _is_free(p) and _is_free(p + 1)
        ),
        0,
    )
    if not etcd_port:
        raise StateError(f"no two free ports from {plan.ETCD_PORT} on for etcd")
    cpus = psutil.cpu_count() or 1
    cpu_nanos, memory_bytes = plan.share(cpus, psutil.virtual_memory().total, agents)
    return Plan(
        folder=str(folder),
        port=port,
        etcd_port=etcd_port,
        etcd_peer_port=etcd_port + 1,
        agents=agents,
        docker=docker_address,
        cpu_nanos=cpu_nanos,
        memory_bytes=memory_bytes,
    )


def start(app: App, wanted: Plan, tell: Callable[[str], None]) -> Plan:
    """Start what is missing, wait until it is ready, and return the plan as it is now.

    Args:
        app: asks the manager.
        wanted: what shall run.
        tell: is told each step.

    Raises:
        ClusterError: something could not be started; what runs goes on running.
    """
    docker.connect(wanted.docker, seconds=docker.PING_SECONDS).close()
    etcd = etcd_program()
    wanted.save()
    environment = plan.environment(app.environment)
    started = []
    for name, daemon in wanted.daemons.items():
        if daemon.running() is None:
            daemon.start(wanted.arguments(name, etcd), environment)
            started.append(name)
    if not started:
        tell("everything runs already")
    began = app.clock.monotonic()

    def step(what: str) -> None:
        tell(f"{what} after {app.clock.monotonic() - began:.1f}s")

    _wait(app, wanted, "etcd", lambda: _is_healthy(wanted))
    step(f"etcd is healthy at {wanted.etcd_url}")
    _wait(app, wanted, "manager", lambda: bool(_ask(lambda: app.client.cluster_info().leader_id)))
    step(f"the manager answers at {wanted.endpoint}")
    told: set[str] = set()

    def all_ready() -> bool:
        ready = _ready_nodes(app)
        for name in sorted(ready & set(wanted.nodes) - told):
            step(f"{name} is ready")
        told.update(ready)
        return told >= set(wanted.nodes)

    for name in wanted.nodes:
        _wait(app, wanted, name, all_ready)
    done = replace(wanted, cluster_id=app.client.cluster_info().cluster.id)
    done.save()
    return done


def etcd_program() -> str:
    """Return the path of etcd.

    Raises:
        NotFoundError: it is not installed.
    """
    path = shutil.which("etcd") or shutil.which("etcd", path=_SBIN)
    if path is None:
        raise NotFoundError("there is no etcd on this machine: apt-get install etcd-server")
    return path


def _wait(app: App, wanted: Plan, name: str, is_ready: Callable[[], bool]) -> None:
    """Wait for a process to be ready; any of the cluster's that ends meanwhile ends the wait."""
    deadline = app.clock.monotonic() + READY_SECONDS
    while not is_ready():
        for daemon in wanted.daemons.values():
            if daemon.running() is None:
                raise DaemonError(daemon.told("ended"))
        if app.clock.monotonic() > deadline:
            daemon = wanted.daemons[name]
            raise UnavailableError(daemon.told(f"was not ready within {READY_SECONDS:g}s"))
        app.pause(LOOK_SECONDS)


def _is_healthy(wanted: Plan) -> bool:
    try:
        with urllib.request.urlopen(f"{wanted.etcd_url}/health", timeout=HEALTH_SECONDS) as answer:  # noqa: S310
            return b'"true"' in answer.read()
    except (OSError, urllib.error.URLError):
        return False


def _ask(question: Callable[[], str]) -> str:
    try:
        return question()
    except ClusterError:
        return ""


def _ready_nodes(app: App) -> set[str]:
    try:
        return {
            each.node.description.hostname
            for each in app.client.nodes()
            if each.node.status.state is NodeState.READY
        }
    except ClusterError:
        return set()


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True

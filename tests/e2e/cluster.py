"""A whole Shoal cluster in the lab: etcd, managers and agents as processes of their own.

The first control host runs etcd and is where the operator works; each further one runs a
manager; each host with Docker runs an agent. Everything is started as a user's machine would
start it, only by hand: ``python -m manager``, ``python -m agent``, ``python -m clusterctl``.
"""

import json
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from docker.models.containers import Container

from scripts.lib.steps import TREE
from tests.lab.docker_host import DockerHost
from tests.lab.host import Host
from tests.lab.lab import Lab
from tests.lab.process import Process
from tests.lab.waiting import wait_until

MANAGER_PORT = 7420
ETCD_PORT = 2379
READY_SECONDS = 30.0
"""For the whole cluster to come up: Python starts slowly when eight of them do at once."""


TIDY_SECONDS = 30.0
"""For containers and networks of a removed stack to be gone from every host."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A container of ours, as the Docker daemon of its host shows it."""

    id: str
    host: str
    service: str
    slot: int
    task: str
    is_running: bool


def _as_at_first(node: dict[str, Any]) -> list[str]:
    """Return what undoes all that was asked of a node, as ``node ls`` shows it."""
    options = [] if node["availability"] == "active" else ["--availability", "active"]
    options += ["--task-slots", "0"] if node["task_slots"] else []
    for option, names in (
        ("--label-rm", node["labels"]),
        ("--unreserve-for", node["reserved_for"]),
        ("--volume-rm", node["volumes"]),
    ):
        options += [word for name in names for word in (option, name)]
    return options


class LabCluster:
    """Runs a cluster on the hosts of *lab*; ``lab`` needs one control host more than managers."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.operator, *self.manager_hosts = lab.controls
        self.docker_hosts = lab.docker_hosts
        self.managers: dict[str, Process] = {}
        self.agents: dict[str, Process] = {}
        self.etcd: Process | None = None

    @property
    def endpoints(self) -> str:
        return ",".join(f"{host.address}:{MANAGER_PORT}" for host in self.manager_hosts)

    # --- starting and stopping ---

    def start(self) -> None:
        """Start everything and wait until every node is ready."""
        self.start_etcd()
        for host in self.manager_hosts:
            self.start_manager(host)
        for host in self.docker_hosts:
            self.start_agent(host)
        self.wait_nodes(ready=len(self.docker_hosts))

    def start_etcd(self) -> None:
        url = f"http://{self.operator.address}:{ETCD_PORT}"
        self.etcd = self.operator.spawn(
            "etcd",
            [
                *("etcd", "--data-dir", str(self.operator.folder / "etcd")),
                *("--listen-client-urls", url, "--advertise-client-urls", url),
                *("--listen-peer-urls", "http://127.0.0.1:2380"),
                *("--initial-advertise-peer-urls", "http://127.0.0.1:2380"),
                *("--initial-cluster", "default=http://127.0.0.1:2380"),
                *("--max-txn-ops", "1024", "--logger", "zap"),
            ],
        )

    def start_manager(self, host: Host) -> Process:
        address = f"{host.address}:{MANAGER_PORT}"
        process = host.spawn(
            "manager",
            [
                *(sys.executable, "-m", "manager", "--listen", address),
                *("--advertise", address, "--insecure", "true"),
                *("--etcd", f"{self.operator.address}:{ETCD_PORT}"),
            ],
            cwd=TREE,
        )
        self.managers[host.name] = process
        return process

    def start_agent(self, host: DockerHost) -> Process:
        process = host.spawn(
            "agent",
            [
                *(sys.executable, "-m", "agent", "--managers", self.endpoints),
                *("--hostname", host.name, "--address", host.address),
                *("--state-dir", str(host.folder / "agent")),
                *("--docker", f"unix://{host.docker_socket}"),
                *("--generic-resources", f"gpu={host.name}-a,{host.name}-b"),
            ],
            cwd=TREE,
        )
        self.agents[host.name] = process
        return process

    def leading_host(self) -> Host | None:
        """Return the host of the manager that leads; None while none does."""
        info = self.ctl_json("cluster", "info")
        leader = next((m for m in info["managers"] if m["id"] == info["leader_id"]), None)
        if leader is None:
            return None
        address = leader["address"].partition(":")[0]
        return next(host for host in self.manager_hosts if host.address == address)

    # --- asking and telling ---

    def ctl(
        self,
        *arguments: str,
        check: bool = True,
        stdin: str = "",
        seconds: float = 60.0,
        endpoints: str = "",
    ) -> "subprocess.CompletedProcess[str]":
        """Run clusterctl where the operator works."""
        return self.operator.run(
            [sys.executable, "-m", "clusterctl", *arguments],
            check=check,
            stdin=stdin,
            cwd=TREE,
            environment={"SHOAL_ENDPOINT": endpoints or self.endpoints},
            seconds=seconds,
        )

    def ctl_json(self, *arguments: str) -> Any:
        return json.loads(self.ctl(*arguments, "--format", "json").stdout)

    def deploy(self, stack: str, compose: str, *more: str) -> "subprocess.CompletedProcess[str]":
        return self.ctl("stack", "deploy", "-c", "-", *more, stack, stdin=compose)

    def wait_nodes(self, *, ready: int, seconds: float = READY_SECONDS) -> list[dict[str, Any]]:
        """Return all nodes, as ``node ls`` shows them, once so many are ready."""

        def as_many() -> list[dict[str, Any]] | None:
            listing = self.ctl("node", "ls", "--format", "json", check=False)
            nodes: list[dict[str, Any]] = [] if listing.returncode else json.loads(listing.stdout)
            return nodes if sum(node["status"] == "ready" for node in nodes) == ready else None

        try:
            nodes = wait_until(
                as_many, f"{ready} nodes are ready", seconds=seconds, every_seconds=0.2
            )
        except TimeoutError as error:
            raise TimeoutError(f"{error}\n{self.logs()}") from None
        return nodes or []

    def tasks(self, service: str) -> list[dict[str, Any]]:
        """Return the service's tasks that are meant to run, as ``service ps`` shows them."""
        found: list[dict[str, Any]] = self.ctl_json("service", "ps", service)
        return found

    def containers(self, host: DockerHost, *, everything: bool = False) -> list[Container]:
        """Return our containers on *host* as its Docker daemon sees them."""
        found: list[Container] = host.docker.containers.list(
            all=everything, filters={"label": "shoal.task"}, ignore_removed=True
        )
        return found

    def seen(
        self, service: str = "", *, hosts: Iterable[DockerHost] = (), everything: bool = False
    ) -> list[Seen]:
        """Return our containers on the hosts that are up, the running ones or all.

        What Docker says, whatever managers and agents believe; it works through cuts.
        """
        found = []
        for host in hosts or self.docker_hosts:
            if not host.is_up:
                continue
            rows = host.docker.api.containers(all=everything, filters={"label": "shoal.task"})
            for row in rows:
                marks = row["Labels"]
                if service in ("", marks["shoal.service.name"]):
                    found.append(
                        Seen(
                            id=row["Id"],
                            host=host.name,
                            service=marks["shoal.service.name"],
                            slot=int(marks["shoal.slot"]),
                            task=marks["shoal.task"],
                            is_running=row["State"] == "running",
                        )
                    )
        return found

    def starts(self, service: str = "", *, hosts: Iterable[DockerHost] = ()) -> dict[str, str]:
        """Return the id of each running container and when it started: equal if untouched."""
        return {
            seen.id: self.host_named(seen.host).docker.api.inspect_container(seen.id)["State"][
                "StartedAt"
            ]
            for seen in self.seen(service, hosts=hosts)
        }

    def host_named(self, name: str) -> DockerHost:
        return next(host for host in self.docker_hosts if host.name == name)

    def container(self, seen: Seen) -> Container:
        """Return the container itself, to do things to it."""
        return self.host_named(seen.host).docker.containers.get(seen.id)

    def wait_running(
        self,
        service: str,
        count: int,
        *,
        hosts: Iterable[DockerHost] = (),
        seconds: float = 30.0,
    ) -> list[Seen]:
        """Wait until *count* containers of the service run on *hosts*, each in its own slot."""
        hosts = tuple(hosts) or self.docker_hosts
        names = ", ".join(host.name for host in hosts)

        def as_many() -> list[Seen] | None:
            running = self.seen(service, hosts=hosts)
            slots = {seen.slot for seen in running}
            return running if len(running) == len(slots) == count else None

        return wait_until(as_many, f"{count} of {service} run on {names}", seconds=seconds) or []

    # --- setting right ---

    def restore(self) -> None:
        """Start, plug in and wake up whatever was stopped; does not wait until it is well."""
        down = [host for host in self.lab.hosts if not host.is_up]
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda host: host.boot(), down))
        for host in self.lab.hosts:
            host.thaw()
            host.heal()
        for docker_host in self.docker_hosts:
            if docker_host.dockerd is None:
                docker_host.start_dockerd()
        if self.etcd is None or not self.etcd.is_running:
            self.start_etcd()
        for host in self.manager_hosts:
            if not self.managers[host.name].is_running:
                self.start_manager(host)
        for docker_host in self.docker_hosts:
            if not self.agents[docker_host.name].is_running:
                self.start_agent(docker_host)

    def tidy(self) -> None:
        """Wait until all nodes are well, and remove all stacks: nothing of them may be left.

        Raises:
            TimeoutError: says what is left.
        """
        with ThreadPoolExecutor() as pool:  # each takes half a second, of starting Python alone
            listing = pool.submit(self.ctl, "stack", "ls", "-q")
            nodes = self.wait_nodes(ready=len(self.docker_hosts))
        if stacks := listing.result().stdout.split():
            self.ctl("stack", "rm", *stacks)
        for node in nodes:
            if back := _as_at_first(node):
                self.ctl("node", "update", node["id"], *back)
        self.wait_bare()

    def wait_bare(self, *, seconds: float = TIDY_SECONDS) -> None:
        """Wait until no host has a container or network of ours."""

        def is_bare() -> bool:
            leftovers[:] = self.leftovers()
            return not leftovers

        leftovers: list[str] = []
        try:
            wait_until(is_bare, "nothing of ours is left on the hosts", seconds=seconds)
        except TimeoutError as error:
            raise TimeoutError(f"{error}: {', '.join(leftovers)}") from None

    def leftovers(self) -> list[str]:
        """Return the containers, dead ones too, and networks that hosts have of ours."""
        found = [f"{seen.host}: {seen}" for seen in self.seen(everything=True)]
        for host in self.docker_hosts:
            rows = host.docker.api.networks(filters={"label": "shoal.network"})
            found += [f"{host.name}: network {row['Name']}" for row in rows]
        return found

    def logs(self) -> str:
        """Return what there is and the ends of all logs, for the message of a failed test."""
        processes = [*self.managers.items(), *self.agents.items()]
        if self.etcd is not None and not self.etcd.is_running:
            processes.append((self.operator.name, self.etcd))
        looks = [("node", "ls"), ("service", "ls"), ("task", "ls", "--all")]
        told = [self.ctl(*look, check=False, seconds=20.0) for look in looks]
        return "\n".join(
            [
                *(
                    f"--- {' '.join(look)}\n{done.stdout}{done.stderr}"
                    for look, done in zip(looks, told, strict=True)
                ),
                *(f"--- {process!r} on {name}\n{process.tail()}" for name, process in processes),
            ]
        )

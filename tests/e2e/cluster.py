"""A whole Shoal cluster in the lab: etcd, managers and agents as processes of their own.

The first control host runs etcd and is where the operator works; the next ones run a manager
each, and those after them further members of etcd; each host with Docker runs an agent.
Everything is started as a user's machine would start it, only by hand: ``python -m manager``,
``python -m agent``, ``python -m clusterctl``.
"""

import json
import subprocess
import sys
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from docker.errors import NotFound
from docker.models.containers import Container

from scripts.lib.steps import TREE
from tests.e2e.warm_client import WarmClient
from tests.lab.docker_host import DockerHost
from tests.lab.host import Host
from tests.lab.lab import Lab
from tests.lab.process import Process
from tests.lab.waiting import wait_until

MANAGER_PORT = 7420
ETCD_PORT = 2379
PEER_PORT = 2380
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
    """Runs a cluster on the hosts of *lab*.

    Of its control hosts the first is the operator's and has etcd, the next *managers* have a
    manager (if it is None, all others), the rest further members of etcd. ``managers``,
    ``agents`` and ``etcd`` are the processes by the names of their hosts.
    """

    def __init__(self, lab: Lab, *, managers: int | None = None) -> None:
        self.lab = lab
        self.operator, *others = lab.controls
        self.manager_hosts = others[:managers]
        self.etcd_hosts = [self.operator, *others[len(self.manager_hosts) :]]
        self.docker_hosts = lab.docker_hosts
        self.managers: dict[str, Process] = {}
        self.agents: dict[str, Process] = {}
        self.etcd: dict[str, Process] = {}
        self._client = WarmClient(self.operator)

    @property
    def endpoints(self) -> str:
        """Of the managers."""
        return ",".join(map(self.endpoint_of, self.manager_hosts))

    def endpoint_of(self, host: Host) -> str:
        """Return where the manager on *host* serves."""
        return f"{host.address}:{MANAGER_PORT}"

    @property
    def etcd_endpoints(self) -> str:
        return ",".join(f"{host.address}:{ETCD_PORT}" for host in self.etcd_hosts)

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
        """Start those members that do not run."""
        for host in self.etcd_hosts:
            if host.name not in self.etcd or not self.etcd[host.name].is_running:
                self.start_member(host)

    def start_member(self, host: Host, *flags: str) -> Process:
        """Start the member of etcd on *host*, with more *flags*."""
        client, peer = (f"http://{host.address}:{port}" for port in (ETCD_PORT, PEER_PORT))
        process = host.spawn(
            "etcd",
            [
                *("etcd", "--name", host.name, "--data-dir", str(self.etcd_data(host))),
                *("--listen-client-urls", client, "--advertise-client-urls", client),
                *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
                *("--initial-cluster", self.etcd_members),
                *("--max-txn-ops", "1024", "--logger", "zap", *flags),
            ],
        )
        self.etcd[host.name] = process
        return process

    def etcd_data(self, host: Host) -> Path:
        return host.folder / "etcd"

    @property
    def etcd_members(self) -> str:
        """What etcd calls the initial cluster."""
        return ",".join(f"{h.name}=http://{h.address}:{PEER_PORT}" for h in self.etcd_hosts)

    def etcdctl(
        self, *arguments: str, host: Host | None = None, check: bool = True
    ) -> "subprocess.CompletedProcess[str]":
        """Run etcdctl where the operator works, on the whole of etcd or on one member."""
        at = f"{host.address}:{ETCD_PORT}" if host else self.etcd_endpoints
        argv = ["etcdctl", f"--endpoints={at}", *arguments]
        return self.operator.run(argv, environment={"ETCDCTL_API": "3"}, check=check)

    def member_states(self) -> dict[str, dict[str, Any]]:
        """Return what the members that answer say of themselves, by the names of their hosts."""
        said = self.etcdctl("endpoint", "status", "--write-out=json", check=False).stdout
        by_address = {f"{host.address}:{ETCD_PORT}": host.name for host in self.etcd_hosts}
        return {by_address[each["Endpoint"]]: each["Status"] for each in json.loads(said or "[]")}

    def leading_member(self) -> Host | None:
        """Return the host of the member that leads etcd; None while none is seen to."""
        for name, state in self.member_states().items():
            if state["leader"] == state["header"]["member_id"]:
                return next(host for host in self.etcd_hosts if host.name == name)
        return None

    def start_manager(self, host: Host, *, environment: Mapping[str, str] | None = None) -> Process:
        address = f"{host.address}:{MANAGER_PORT}"
        process = host.spawn(
            "manager",
            [
                *(sys.executable, "-m", "manager", "--listen", address),
                *("--advertise", address, "--insecure", "true"),
                *("--etcd", self.etcd_endpoints),
            ],
            cwd=TREE,
            environment=environment,
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
        """Return the host of the manager that leads; None while none does, or none answers."""
        told = self.ctl("cluster", "info", "--format", "json", check=False)
        if told.returncode:
            return None
        info = json.loads(told.stdout)
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
        """Run clusterctl where the operator works.

        Raises:
            RuntimeError: it failed (and *check*), or took longer than *seconds*.
        """
        done = self._client.run(
            arguments,
            stdin=stdin,
            environment={"SHOAL_ENDPOINT": endpoints or self.endpoints},
            seconds=seconds,
        )
        if check and done.returncode != 0:
            raise RuntimeError(
                f"exit code {done.returncode}: clusterctl {' '.join(arguments)}\n"
                f"{done.stdout}{done.stderr}"
            )
        return done

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
        found = {}
        for seen in self.seen(service, hosts=hosts):
            with suppress(NotFound):  # it has gone meanwhile
                details = self.host_named(seen.host).docker.api.inspect_container(seen.id)
                found[seen.id] = details["State"]["StartedAt"]
        return found

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
            host.shorten()
        for process in (*self.managers.values(), *self.agents.values(), *self.etcd.values()):
            process.resume()
        self.lab.unblock_all()
        for docker_host in self.docker_hosts:
            if docker_host.dockerd is None:
                docker_host.start_dockerd()
            else:
                docker_host.dockerd.resume()
        self.start_etcd()
        for host in self.manager_hosts:
            if not self.managers[host.name].is_running:
                self.start_manager(host)
        for docker_host in self.docker_hosts:
            if not self.agents[docker_host.name].is_running:
                self.start_agent(docker_host)

    def tidy(self) -> None:
        """Wait until all nodes are well and all is as promised, and remove all stacks.

        Raises:
            TimeoutError: nodes are not well, or something of the stacks is left; says what.
            RuntimeError: a promise is broken; says which.
        """
        nodes = self.wait_nodes(ready=len(self.docker_hosts))
        self.verify()
        if stacks := self.ctl("stack", "ls", "-q").stdout.split():
            self.ctl("stack", "rm", *stacks)
        for node in nodes:
            if back := _as_at_first(node):
                self.ctl("node", "update", node["id"], *back)
        self.wait_bare()

    def verify(self) -> None:
        """Have the cluster judge itself, as users can.

        Raises:
            RuntimeError: a promise is broken; says which.
        """
        self.ctl("verify", "--for", "0")

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
        processes += [(name, each) for name, each in self.etcd.items() if not each.is_running]
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

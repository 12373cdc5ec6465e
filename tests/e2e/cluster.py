"""A whole Shoal cluster in the lab: etcd, managers and agents as processes of their own.

The first control host runs etcd and is where the operator works; each further one runs a
manager; each host with Docker runs an agent. Everything is started as a user's machine would
start it, only by hand: ``python -m manager``, ``python -m agent``, ``python -m clusterctl``.
"""

import json
import subprocess
import sys
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
            ],
            cwd=TREE,
        )
        self.agents[host.name] = process
        return process

    def leading_host(self) -> Host:
        """Return the host of the manager that leads."""
        (info,) = self.ctl_json("cluster", "info")
        leader = next(m for m in info["managers"] if m["id"] == info["leader_id"])
        address = leader["address"].partition(":")[0]
        return next(host for host in self.manager_hosts if host.address == address)

    # --- asking and telling ---

    def ctl(
        self, *arguments: str, check: bool = True, stdin: str = "", seconds: float = 60.0
    ) -> "subprocess.CompletedProcess[str]":
        """Run clusterctl where the operator works."""
        return self.operator.run(
            [sys.executable, "-m", "clusterctl", "--endpoint", self.endpoints, *arguments],
            check=check,
            stdin=stdin,
            cwd=TREE,
            seconds=seconds,
        )

    def ctl_json(self, *arguments: str) -> Any:
        return json.loads(self.ctl(*arguments, "--format", "json").stdout)

    def deploy(self, stack: str, compose: str, *more: str) -> "subprocess.CompletedProcess[str]":
        return self.ctl("stack", "deploy", "-c", "-", *more, stack, stdin=compose)

    def wait_nodes(self, *, ready: int, seconds: float = READY_SECONDS) -> None:
        def all_ready() -> bool:
            info = self.ctl("cluster", "info", "--format", "json", check=False)
            return info.returncode == 0 and int(json.loads(info.stdout)[0]["nodes_ready"]) == ready

        try:
            wait_until(all_ready, f"{ready} nodes are ready", seconds=seconds, every_seconds=0.1)
        except TimeoutError as error:
            raise TimeoutError(f"{error}\n{self.logs()}") from None

    def tasks(self, service: str) -> list[dict[str, Any]]:
        """Return the service's tasks that are meant to run, as ``service ps`` shows them."""
        found: list[dict[str, Any]] = self.ctl_json("service", "ps", service)
        return found

    def containers(self, host: DockerHost, *, everything: bool = False) -> list[Container]:
        """Return our containers on *host* as its Docker daemon sees them."""
        found: list[Container] = host.docker.containers.list(
            all=everything, filters={"label": "shoal.task"}
        )
        return found

    def running(self) -> dict[str, str]:
        """Return the id of every container of ours that runs on a host that is up, and where."""
        return {
            container.id: host.name
            for host in self.docker_hosts
            if host.is_up
            for container in self.containers(host)
            if container.id
        }

    def logs(self) -> str:
        """Return the ends of all logs, for the message of a failed test."""
        processes = [*self.managers.items(), *self.agents.items()]
        return "\n".join(
            f"--- {process.name} on {name}\n{process.tail()}" for name, process in processes
        )

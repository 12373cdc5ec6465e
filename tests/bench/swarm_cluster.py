"""Docker Swarm on the lab's engines: one manager, the rest workers; only what is measured."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from time import monotonic, sleep
from types import TracebackType
from typing import Any, Self

from docker.types import (
    ContainerSpec,
    NetworkAttachmentConfig,
    ServiceMode,
    TaskTemplate,
    UpdateConfig,
)

from tests.lab.docker_host import DockerHost

ADDRESSES = "198.19.128.0/17"
"""For its own networks: the default would be 10.0.0.0/8."""

SUBNET_BITS = 24
PORT = 2377
SERVICE = "swarm-bench"

LOOK_SECONDS = 0.05
WAIT_SECONDS = 90.0

Found = dict[str, Any]


class SwarmCluster:
    """A context manager: the engines form a swarm inside, and have left it after."""

    def __init__(self, hosts: Sequence[DockerHost]) -> None:
        self._manager, *self._workers = hosts
        self._hosts = hosts

    @cached_property
    def _api(self) -> Any:
        return self._manager.docker.api

    def __enter__(self) -> Self:
        address = self._manager.address
        self._api.init_swarm(
            advertise_addr=address,
            listen_addr=f"{address}:{PORT}",
            default_addr_pool=[ADDRESSES],
            subnet_size=SUBNET_BITS,
        )
        token = self._api.inspect_swarm()["JoinTokens"]["Worker"]
        for host in self._workers:
            api: Any = host.docker.api
            api.join_swarm([f"{address}:{PORT}"], token, advertise_addr=host.address)
        self._wait(lambda: len(self._ready_nodes()) == len(self._hosts), "all nodes are ready")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for host in reversed(self._hosts):
            api: Any = host.docker.api
            api.leave_swarm(force=True)

    # --- asking ---

    @contextmanager
    def service(self, image: str, replicas: int, network: str = "") -> Iterator[float]:
        """Have a service inside; yield the moment before it was asked for."""
        template = TaskTemplate(
            ContainerSpec(image),
            networks=[NetworkAttachmentConfig(network)] if network else None,
        )
        began_at = monotonic()
        self._api.create_service(template, name=SERVICE, mode=ServiceMode("replicated", replicas))
        try:
            yield began_at
        finally:
            self._api.remove_service(SERVICE)
            self._wait(lambda: not self._containers(), "its containers are gone")

    def update(self, image: str, parallelism: int) -> None:
        """Ask for another image: stop-first, no delay, no monitor period."""
        known = self._api.inspect_service(SERVICE)
        template = known["Spec"]["TaskTemplate"]
        template["ContainerSpec"]["Image"] = image
        self._api.update_service(
            known["ID"],
            known["Version"]["Index"],
            task_template=template,
            name=SERVICE,
            mode=known["Spec"]["Mode"],
            update_config=UpdateConfig(parallelism=parallelism, monitor=1),  # nanoseconds; 0: 5 s
        )

    def kill_one(self) -> str:
        """Kill a container of the service; return its task's id."""
        task = self._running()[0]
        container = task["Status"]["ContainerStatus"]["ContainerID"]
        host = self._hosts[[node["ID"] for node in self._nodes()].index(task["NodeID"])]
        api: Any = host.docker.api
        api.kill(container)
        return str(task["ID"])

    @contextmanager
    def drained(self) -> Iterator[tuple[float, str]]:
        """Drain the last worker; yield the moment before that, and the node's id."""
        node_id = self._nodes()[-1]["ID"]
        began_at = monotonic()
        self._set(node_id, "drain")
        try:
            yield began_at, node_id
        finally:
            self._set(node_id, "active")

    def _set(self, node_id: str, availability: str) -> None:
        node = self._api.inspect_node(node_id)
        spec = {**node["Spec"], "Availability": availability}
        self._api.update_node(node_id, node["Version"]["Index"], spec)

    # --- looking ---

    def wait_running(
        self, count: int, *, image: str = "", without: str = "", off: str = ""
    ) -> float:
        """Wait until the manager tells so many tasks running; return the moment.

        Args:
            count: of tasks that are to run and do.
            image: only those that run this one count.
            without: the id of a task that does not count.
            off: the id of a node that must have none.
        """

        def are_there() -> bool:
            running = [
                task
                for task in self._running()
                if task["ID"] != without
                and (not image or task["Spec"]["ContainerSpec"]["Image"] == image)
            ]
            return len(running) == count and all(task["NodeID"] != off for task in running)

        self._wait(are_there, f"{count} tasks run")
        return monotonic()

    def _running(self) -> list[Found]:
        tasks = self._api.tasks(filters={"service": SERVICE, "desired-state": "running"})
        return [task for task in tasks if task["Status"]["State"] == "running"]

    def _nodes(self) -> list[Found]:
        """Return the nodes in the order of the hosts."""
        names = [host.name for host in self._hosts]
        nodes: list[Found] = self._api.nodes()
        return sorted(nodes, key=lambda node: names.index(node["Description"]["Hostname"]))

    def _ready_nodes(self) -> Collection[Found]:
        return [node for node in self._api.nodes() if node["Status"]["State"] == "ready"]

    def _containers(self) -> Collection[Found]:
        mine = {"label": f"com.docker.swarm.service.name={SERVICE}"}
        apis: list[Any] = [host.docker.api for host in self._hosts]
        return [found for api in apis for found in api.containers(all=True, filters=mine)]

    def _wait(self, condition: Any, what: str) -> None:
        deadline = monotonic() + WAIT_SECONDS
        while not condition():
            if monotonic() > deadline:
                raise TimeoutError(f"not within {WAIT_SECONDS:g} s: {what}")
            sleep(LOOK_SECONDS)

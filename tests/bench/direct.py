"""The machine's own limit: the same containers through Docker's API, with nothing in between.

Each host gets a few threads, each of which creates and starts one container after the other
with exactly the configuration that an agent would send. That a start returns is all that is
waited for: no inspection, no image check, no state.
"""

import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from time import monotonic
from typing import Any

from agent.runtime import translate
from agent.runtime.interface import Owner
from cluster.ids import IdSource
from cluster.model import (
    Assignment,
    ClusterId,
    NodeId,
    ServiceId,
    TaskId,
    TaskSpec,
    TaskState,
)
from tests.lab.docker_host import DockerHost

THREADS_PER_HOST = 2
"""Measured on two cores and three hosts: one leaves them idle at times, more only take turns."""

REMOVALS_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class Made:
    """A container that was started directly."""

    host: DockerHost
    id: str

    def remove(self) -> None:
        self.host.docker.api.remove_container(self.id, force=True, v=True)


class Direct:
    """Starts containers on *hosts*, as tasks of a cluster that no agent belongs to."""

    def __init__(self, threads_per_host: int = THREADS_PER_HOST) -> None:
        self.threads_per_host = threads_per_host
        ids = IdSource(random.Random())
        self._owner = Owner(ClusterId(ids.new()), NodeId(ids.new()))
        self._ids = ids

    def start(
        self, spec: TaskSpec, count: int, hosts: Sequence[DockerHost]
    ) -> tuple[float, list[Made]]:
        """Start *count* containers spread over *hosts*.

        Returns:
            The seconds from the first call to the last answer, and what to ``remove``.
        """
        shares = zip(hosts, _parts(count, len(hosts)), strict=True)
        lots = [
            (host, lot) for host, share in shares for lot in _parts(share, self.threads_per_host)
        ]
        for host in hosts:
            host.docker.ping()  # connected, as agents are
        with ThreadPoolExecutor(len(lots)) as pool:
            began_at = monotonic()
            starts = [pool.submit(self._run_some, spec, host, lot) for host, lot in lots]
            made = [one for start in starts for one in start.result()]
            return monotonic() - began_at, made

    def replace(self, spec: TaskSpec, host: DockerHost) -> tuple[float, list[Made]]:
        """Start a container, kill it, and start another; count the seconds from the kill on."""
        first = self.run(spec, host)
        began_at = monotonic()
        host.docker.api.kill(first.id)
        host.docker.api.wait(first.id)
        second = self.run(spec, host)
        return monotonic() - began_at, [first, second]

    def update(
        self,
        old: TaskSpec,
        new: TaskSpec,
        count: int,
        hosts: Sequence[DockerHost],
        parallelism: int,
    ) -> tuple[float, list[Made]]:
        """Start *count* containers, then replace each, *parallelism* at a time, stopping it first.

        Returns:
            The seconds for replacing them all, and what to ``remove``.
        """
        _, before = self.start(old, count, hosts)
        with ThreadPoolExecutor(parallelism) as pool:
            began_at = monotonic()
            after = list(pool.map(lambda made: self._replace_well(made, new), before))
            return monotonic() - began_at, [*before, *after]

    def _replace_well(self, made: Made, new: TaskSpec) -> Made:
        made.host.docker.api.stop(made.id)
        return self.run(new, made.host)

    def run(self, spec: TaskSpec, host: DockerHost) -> Made:
        """Create and start one container."""
        task_id = TaskId(self._ids.new())
        assignment = Assignment(
            task_id=task_id,
            service_id=ServiceId(task_id),
            service_name="direct",
            spec_version=1,
            slot=1,
            node_id=self._owner.node_id,
            desired_state=TaskState.RUNNING,
            state=TaskState.ASSIGNED,
        )
        config = translate.container_config(self._owner, assignment, spec)
        api: Any = host.docker.api
        created = api.create_container_from_config(config, name=f"direct.1.{task_id}")
        api.start(created["Id"])
        return Made(host, created["Id"])

    def _run_some(self, spec: TaskSpec, host: DockerHost, count: int) -> list[Made]:
        return [self.run(spec, host) for _ in range(count)]


def remove(made: Sequence[Made]) -> None:
    with ThreadPoolExecutor(REMOVALS_AT_ONCE) as pool:
        list(pool.map(Made.remove, made))


def _parts(count: int, parts: int) -> list[int]:
    """Split *count* into as equal parts as possible."""
    return [count // parts + (i < count % parts) for i in range(parts)]

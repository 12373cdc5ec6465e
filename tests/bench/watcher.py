"""Somebody who follows the cluster and notes at which moment managers told what.

This is where the clock stands still in all cases: a task runs when a manager says so to
whoever watches. Nothing is polled, so that watching costs the managers next to nothing.
"""

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic, sleep

from cluster.clock import SystemClock
from cluster.errors import ClusterError
from cluster.lifecycle import live
from cluster.model import NodeId, Task, TaskId, TaskState
from clusterctl.calls import Caller
from clusterctl.channel import Connector
from clusterctl.client import Client
from clusterctl.follow import Follower, Update
from clusterctl.settings import Target
from clusterctl.view import View

WAIT_SECONDS = 40.0
"""Ten times what the slowest case takes; after that something is broken, not slow."""

REQUEST_SECONDS = 30.0
TAKE_SECONDS = 0.2
KINDS = ("service", "service_version", "rollout", "task", "node")


def client_of(endpoints: str) -> Client:
    """Return a client as the command line uses it, attempts and all."""
    return Client(_caller(endpoints))


def _caller(endpoints: str) -> Caller:
    clock = SystemClock()
    target = Target(tuple(endpoints.split(",")), None, "")
    return Caller(
        Connector(target, clock),
        clock,
        timeout_seconds=REQUEST_SECONDS,
        chance=random.Random(),
        pause=sleep,
    )


class Watcher:
    """Keeps a view of the cluster in a thread of its own."""

    def __init__(self, endpoints: str) -> None:
        self.view = View()
        self.first_seen: dict[tuple[TaskId, TaskState], float] = {}
        self._caller = _caller(endpoints)
        self._follower = Follower(self._caller, SystemClock(), random.Random(), kinds=KINDS)
        self._news = threading.Condition()
        self._error: ClusterError | None = None
        self._stopped = False
        self._heard_at = monotonic()
        self._thread = threading.Thread(target=self._run, name="watcher", daemon=True)

    @contextmanager
    def following(self) -> Iterator["Watcher"]:
        with self._follower:
            self._thread.start()
            try:
                yield self
            finally:
                self._stopped = True
                self._thread.join()
        self._caller.close()

    def wait(self, condition: Callable[[View], bool], what: str) -> float:
        """Return the moment, of the monotonic clock, at which *condition* was heard to be true.

        Raises:
            TimeoutError: it was not in a long time.
        """
        deadline = monotonic() + WAIT_SECONDS
        with self._news:
            while not (self.view.revision and condition(self.view)):
                if self._error is not None:
                    raise self._error
                if not self._news.wait(deadline - monotonic()):
                    raise TimeoutError(f"not within {WAIT_SECONDS:g} s: {what}; {self.told()}")
            return self._heard_at

    def wait_running(self, service: str, count: int) -> float:
        """Wait until *count* tasks of the service run, and no other is meant to."""
        return self.wait(
            lambda view: all_run(view, service, count), f"{count} tasks of {service} run"
        )

    def node_named(self, hostname: str) -> NodeId:
        """Return the id of the node of that name."""
        nodes = self.view.nodes.values()
        return next(node.id for node in nodes if node.description.hostname == hostname)

    def told(self) -> str:
        """Return how many tasks are in which state, for a message."""
        states = [task.status.state.value for task in self.view.tasks.values()]
        return ", ".join(f"{states.count(state)} {state}" for state in sorted(set(states)))

    def phases(self, since: float) -> dict[str, float]:
        """Return when the last task reached each state, counted from *since*, in seconds."""
        last: dict[str, float] = {}
        for (_, state), at in self.first_seen.items():
            if at >= since and state <= TaskState.RUNNING:
                last[state.value] = round(max(last.get(state.value, 0.0), at - since), 3)
        return dict(sorted(last.items(), key=lambda item: item[1]))

    def _run(self) -> None:
        while not self._stopped:
            try:
                news = self._follower.take(TAKE_SECONDS)
            except ClusterError as error:
                with self._news:
                    self._error = error
                    self._news.notify_all()
                return
            with self._news:
                self._heard_at = monotonic()
                for item in news:
                    if isinstance(item, Update):
                        self._apply(item, self._heard_at)
                self._news.notify_all()

    def _apply(self, update: Update, now: float) -> None:
        self.view.apply(update)
        for value in update.changed:
            if isinstance(value, Task):
                self.first_seen.setdefault((value.id, value.status.state), now)


def tasks_of(view: View, service: str) -> list[Task]:
    """Return all tasks of the service of that name."""
    found = next((one for one in view.services.values() if one.spec.name == service), None)
    return [] if found is None else list(view.tasks_of(found.id))


def all_updated(view: View, service: str, count: int, image: str) -> bool:
    """Tell whether *count* tasks run, and all of them *image*."""

    def runs(task: Task) -> bool:
        version = view.versions.get((task.service_id, task.spec_version))
        return version is not None and version.spec.task.container.image == image

    return all_run(view, service, count) and all(
        runs(task) for task in tasks_of(view, service) if live(task)
    )


def all_run(view: View, service: str, count: int) -> bool:
    """Tell whether *count* tasks hold the service's slots, and all of them run."""
    holders = [task for task in tasks_of(view, service) if live(task)]
    return len(holders) == count and all(task.status.state is TaskState.RUNNING for task in holders)

"""What the agent needs of a container engine, in our own words.

A runtime answers for one thing only: what is so on this host now, and single steps that
change it. It decides nothing. Every step is idempotent, so the caller may repeat one whose
outcome it does not know. A container is *ours* if its labels name our cluster and node and
its name is the one that we give it (``agent.runtime.labels``); no method ever changes any
other container.

What may fail:

    ClusterError
    ├── (UnavailableError) RuntimeUnavailableError   no answer: daemon down, hung or restarting;
    │                                                the outcome of the step is unknown. Look
    │                                                again, then repeat, for as long as it takes
    ├── (InternalError) RuntimeFailedError           the daemon answered that it failed; may be
    │                                                better next time: repeat a few times
    ├── (InvalidError) CannotRunError                this task can never run here as it is (no
    │   │                                            such image, port in use, bad mount, ...):
    │   │                                            its message is for the user
    │   ├── ImageMissingError                        its image is not on the host: pull it, then
    │   │                                            create once more
    │   └── NetworkMissingError                      a network went away since it was ensured:
    │                                                ensure it, then start once more
    └── (NotFoundError) NoContainerError             that container is gone

``tests/contract/test_runtime.py`` holds the dockerd and the fake to this page.
"""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from enum import Enum
from typing import NewType, Protocol

from cluster.errors import InternalError, InvalidError, NotFoundError, UnavailableError
from cluster.model import (
    Assignment,
    ClusterId,
    NodeId,
    Platform,
    ServiceId,
    TaskId,
    TaskSpec,
)
from cluster.resources import Resources

ContainerId = NewType("ContainerId", str)


class RuntimeUnavailableError(UnavailableError):
    """The engine gave no answer; what was asked for may or may not have been done."""


class RuntimeFailedError(InternalError):
    """The engine answered that something went wrong on its side."""


class CannotRunError(InvalidError):
    """The task cannot run on this host as it is specified; the message says why."""


class ImageMissingError(CannotRunError):
    """The container's image is not on this host."""


class NetworkMissingError(CannotRunError):
    """A network that the container is to join does not exist any more."""


class NoContainerError(NotFoundError):
    """The container does not exist (any more)."""


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose containers we speak of: those of one node of one cluster."""

    cluster_id: ClusterId
    node_id: NodeId


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """The engine and its host.

    Attributes:
        capacity: all CPUs and all memory of the host.
        labels: the engine's own, as its administrator set them.
    """

    hostname: str
    platform: Platform
    capacity: Resources
    version: str
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class HostImage:
    """An image on the host.

    Attributes:
        names: references to it; by its digest only if it has no other.
    """

    names: tuple[str, ...]
    size_bytes: int = 0


class ContainerState(Enum):
    CREATED = "created"  # never ran
    RUNNING = "running"
    PAUSED = "paused"  # frozen by somebody; counts as alive
    EXITED = "exited"  # ran, and will not run again


class Health(Enum):
    """What the health check says; of a dead container, what it said last."""

    NONE = "none"  # there is no check
    STARTING = "starting"
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"


@dataclass(frozen=True, slots=True)
class Container:
    """One of our containers as it was seen at a moment.

    Attributes:
        health_output: what the last failed probe printed; empty unless unhealthy.
        exit_code: None unless it has ended.
        oom_killed: the kernel killed it for want of memory.
        error: why the engine could not start or keep it, in the engine's words.
        stop_signal: its own ("SIGTERM"), the image's included; empty if not known yet.
        stop_grace_seconds: its own time between that signal and SIGKILL.
        memory_limit_bytes: 0 if unlimited.
        started_at, ended_at: seconds since 1970 UTC; 0.0 if it has not.
    """

    id: ContainerId
    name: str
    task_id: TaskId
    service_id: ServiceId
    spec_version: int
    state: ContainerState
    health: Health = Health.NONE
    health_output: str = ""
    exit_code: int | None = None
    oom_killed: bool = False
    error: str = ""
    stop_signal: str = ""
    stop_grace_seconds: float = 10.0
    memory_limit_bytes: int = 0
    started_at: float = 0.0
    ended_at: float = 0.0

    @property
    def alive(self) -> bool:
        return self.state in (ContainerState.RUNNING, ContainerState.PAUSED)


@dataclass(frozen=True, slots=True)
class ContainerHint:
    """Something happened to a container: look at it.

    Attributes:
        task_id: whose it is.
        began: it was made or started, and nothing worse.
        signalled: somebody sent it a signal through the engine; it may be us.
    """

    container_id: ContainerId
    task_id: TaskId
    began: bool = False
    signalled: bool = False


class LogStream(Enum):
    STDOUT = "stdout"
    STDERR = "stderr"


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line that a container wrote, without its line feed.

    Attributes:
        at: when, seconds since 1970 UTC.
    """

    stream: LogStream
    at: float
    line: bytes


@dataclass(frozen=True, slots=True)
class LogRange:
    """Which part of a log is wanted.

    Attributes:
        follow: go on with what comes later, until the container ends.
        tail: the last lines only; -1 is all of them.
        since: from that moment on, seconds since 1970 UTC; 0.0 is from the start.
    """

    follow: bool = False
    tail: int = -1
    since: float = 0.0


@dataclass(frozen=True, slots=True)
class ContainerUsage:
    """What a container has used.

    Attributes:
        cpu_total_nanos: CPU time since its start.
        memory_bytes: in use now, without reclaimable cache.
    """

    cpu_total_nanos: int
    memory_bytes: int


class Runtime(Protocol):
    """A container engine. Any method may raise RuntimeUnavailableError or RuntimeFailedError."""

    async def info(self) -> EngineInfo:
        """Describe the engine and its host."""

    async def list(self, owner: Owner) -> Sequence[Container]:
        """Return every container of *owner*, dead ones too."""

    async def inspect(self, container_id: ContainerId) -> Container | None:
        """Look at one container; None if it is gone or was never ours."""

    async def images(self) -> Sequence[HostImage]:
        """Return the images on the host that have a name."""

    async def pull(self, image: str) -> None:
        """Fetch *image* from its registry, however long that takes while it moves.

        Cancelling it gives up the download.

        Raises:
            CannotRunError: it cannot be had.
        """

    async def ensure_network(self, owner: Owner, name: str) -> None:
        """Make the bridge called *name* unless this cluster has it on this host already.

        Raises:
            CannotRunError: the name belongs to a network that is not this cluster's.
        """

    async def remove_unused_networks(self, owner: Owner, keep: Collection[str]) -> None:
        """Remove this cluster's networks that no container uses, except those in *keep*."""

    async def create(self, owner: Owner, assignment: Assignment, spec: TaskSpec) -> Container:
        """Make the task's container, or adopt the one that there is; do not start it.

        The image and the networks must be there.

        Raises:
            ImageMissingError: the image is not on this host.
            CannotRunError: the specification cannot be fulfilled here.
        """

    async def start(self, container_id: ContainerId) -> None:
        """Start a container; one that runs already is left alone.

        Raises:
            CannotRunError: it cannot be started as it is.
            NoContainerError: it is gone.
        """

    async def stop(self, container_id: ContainerId, grace_seconds: float | None = None) -> None:
        """Send its stop signal, wait for its end up to the grace period, then kill it.

        Returns when it does not run, or is gone. None takes the container's own grace.
        """

    async def kill(self, container_id: ContainerId) -> None:
        """Kill a container at once; one that is dead or gone is left as it is."""

    async def remove(self, container_id: ContainerId) -> None:
        """Remove a container and its anonymous volumes, killing it if it runs."""

    def listen(self, owner: Owner) -> AbstractAsyncContextManager[AsyncIterator[ContainerHint]]:
        """Hear hints at what happens to *owner*'s containers, from the moment of entering.

        So a ``list`` inside leaves no gap. Hints may be missing or doubled all the same.

        Raises:
            RuntimeUnavailableError: the connection broke: listen anew, then list again.
        """

    def logs(
        self, container_id: ContainerId, wanted: LogRange
    ) -> AbstractAsyncContextManager[AsyncIterator[LogLine]]:
        """Read what a container wrote, in order.

        Raises:
            NoContainerError: it is gone.
            CannotRunError: its logging driver cannot be read from.
        """

    async def usage(
        self, container_ids: Collection[ContainerId]
    ) -> Mapping[ContainerId, ContainerUsage]:
        """Measure running containers; those that cannot be measured are left out."""

    async def aclose(self) -> None:
        """Let go of the engine; containers go on."""

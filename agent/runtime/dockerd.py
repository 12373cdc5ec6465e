"""The runtime on a real Docker daemon, 20.10 or newer.

Thin: what to say is ``translate``'s, how to say it ``engine``'s, what an answer means
``refusals``'. What is left here is the order of calls for each step.
"""

import asyncio
import contextlib
import itertools
import json
import re
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any, TypeVar

import requests

from agent.runtime import labels, log_frames, refusals, translate
from agent.runtime.cgroups import Cgroups
from agent.runtime.engine import Client, Engine, EngineRefusalError, Patience, json_lines
from agent.runtime.interface import (
    CannotRunError,
    Container,
    ContainerHint,
    ContainerId,
    ContainerState,
    ContainerUsage,
    EngineInfo,
    HostImage,
    LogLine,
    LogRange,
    NoContainerError,
    Owner,
    RuntimeFailedError,
    RuntimeUnavailableError,
)
from agent.runtime.networks import Networks
from cluster.model import Assignment, NetworkMode, Platform, TaskId, TaskSpec
from cluster.resources import NANOS_PER_CPU, Resources

T = TypeVar("T")
Json = dict[str, Any]

STARTS_MAX = 4  # at once: measured, more only add to each one's latency
PULL_SILENCE_SECONDS_MAX = 120.0  # a download that does not move at all for so long is dead
STOP_LOOK_SECONDS = (0.05, 0.1, 0.2, 0.4, 0.8)  # between looks for a container's end
KILL_SECONDS_MAX = 30.0  # for a container to end after SIGKILL; longer: the kernel holds it
REMOVAL_SECONDS_MAX = 30.0  # for somebody else's removal of the same container
TERMINAL_READ_BYTES = 16 * 1024  # at most; less if less has come
BEGINNINGS = ("create", "start")
WATCHED = (*BEGINNINGS, "die", "destroy", "health_status", "kill", "oom", "pause", "unpause")


class DockerRuntime:
    """Implements ``agent.runtime.interface.Runtime``."""

    def __init__(self, base_url: str, patience: Patience | None = None) -> None:
        self._engine = Engine(base_url, patience or Patience())
        self._starts = asyncio.Semaphore(STARTS_MAX)
        self._cgroups = Cgroups()
        self._networks = Networks(self._engine)
        self._listed: dict[ContainerId, tuple[_Summary, Container]] = {}  # the last listing
        self._ends: dict[ContainerId, asyncio.Event] = {}  # of those that are being stopped

    async def info(self) -> EngineInfo:
        info: Json = await self._engine.look(lambda client: client.get_json("/info"))
        version: Json = await self._engine.look(lambda client: client.get_json("/version"))
        pairs = (label.partition("=") for label in info.get("Labels") or [])
        return EngineInfo(
            hostname=info["Name"],
            platform=Platform(os=version["Os"], architecture=version["Arch"]),
            capacity=Resources(
                cpu_nanos=info["NCPU"] * NANOS_PER_CPU, memory_bytes=info["MemTotal"]
            ),
            version=version["Version"],
            labels={key: value for key, _, value in pairs},
        )

    # --- looking ------------------------------------------------------------------------------

    async def list(self, owner: Owner) -> Sequence[Container]:
        filters = json.dumps({"label": _pairs(labels.owner_labels(owner))})
        rows = await self._engine.look(
            lambda client: client.get_json("/containers/json", all=1, filters=filters)
        )
        seen = await asyncio.gather(*map(self._seen, rows))
        summaries = zip(map(_summary, rows), seen, strict=True)
        self._listed = {one.id: (summary, one) for summary, one in summaries if one is not None}
        return [one for one in seen if one is not None]

    async def _seen(self, row: Json) -> Container | None:
        """Look closer only at what differs from the listing before."""
        summary, container = self._listed.get(row["Id"], (None, None))
        if summary == _summary(row):
            return container
        try:
            return await self.inspect(row["Id"])
        except RuntimeFailedError:  # one broken container must not hide all others
            return container or translate.listed(row)

    async def inspect(self, container_id: ContainerId) -> Container | None:
        inspected = await self._inspect(container_id)
        return None if inspected is None else translate.observed(inspected)

    async def _inspect(self, name: str) -> Json | None:
        try:
            found: Json = await self._engine.look(
                lambda client: client.get_json("/containers/{}/json", name)
            )
        except EngineRefusalError as error:
            if error.status == HTTPStatus.NOT_FOUND:
                return None
            raise RuntimeFailedError(str(error)) from error
        return found

    # --- images -------------------------------------------------------------------------------

    async def images(self) -> Sequence[HostImage]:
        rows: list[Json] = await self._engine.look(lambda client: client.get_json("/images/json"))
        found = [HostImage(translate.image_names(row), row.get("Size") or 0) for row in rows]
        return [image for image in found if image.names]

    async def pull(self, image: str) -> None:
        def begin(client: Client) -> requests.Response:
            return client.open_stream(
                "POST",
                "/images/create",
                headers=client.registry_header(image),
                silence_seconds_max=PULL_SILENCE_SECONDS_MAX,
                fromImage=image if _has_tag(image) else f"{image}:latest",
            )

        try:
            async with self._engine.stream(begin, json_lines) as steps:
                async for step in steps:
                    if "error" in step:
                        raise refusals.no_image(image, str(step["error"]))
        except (EngineRefusalError, RuntimeFailedError) as error:
            raise refusals.no_image(image, str(error)) from error

    # --- networks -----------------------------------------------------------------------------

    async def ensure_network(self, owner: Owner, name: str) -> None:
        await self._networks.ensure(owner, name)

    async def remove_unused_networks(self, owner: Owner, keep: Collection[str]) -> None:
        await self._networks.remove_unused(owner, keep)

    # --- a container's life -------------------------------------------------------------------

    async def create(self, owner: Owner, assignment: Assignment, spec: TaskSpec) -> Container:
        config = translate.container_config(owner, assignment, spec)
        name = labels.container_name(assignment)
        try:
            made = await self._engine.act(
                lambda client: client.post_json("/containers/create", body=config, name=name)
            )
        except EngineRefusalError as error:
            if error.status != HTTPStatus.CONFLICT:
                raise refusals.refused(str(error)) from error
            return await self._adopt(owner, assignment, spec, error)
        container = Container(
            id=ContainerId(made["Id"]),
            name=name,
            task_id=assignment.task_id,
            service_id=assignment.service_id,
            spec_version=assignment.spec_version,
            state=ContainerState.CREATED,
            stop_grace_seconds=spec.container.stop_grace_seconds,
        )
        await self._join(container.id, assignment, spec, joined=spec.networks[:1])
        return container

    async def _adopt(
        self, owner: Owner, assignment: Assignment, spec: TaskSpec, refusal: EngineRefusalError
    ) -> Container:
        name = labels.container_name(assignment)
        inspected = await self._inspect(name)
        if inspected is None:
            raise RuntimeFailedError(str(refusal))
        container = translate.observed(inspected)
        marks = inspected["Config"].get("Labels") or {}
        if container is None or not labels.has(marks, labels.container_labels(owner, assignment)):
            raise CannotRunError(f"this host has a container '{name}' that is not the cluster's")
        if container.state is ContainerState.CREATED:
            names = inspected["NetworkSettings"]["Networks"]
            joined = [there for there in spec.networks if there.network in names]
            await self._join(container.id, assignment, spec, joined=joined)
        return container

    async def _join(
        self, container_id: ContainerId, assignment: Assignment, spec: TaskSpec, joined: Any
    ) -> None:
        """Connect to the networks that are not among those *joined* already."""
        if spec.network_mode is not NetworkMode.NETWORKS:
            return
        for attachment in spec.networks:
            if attachment in joined:
                continue
            endpoint = translate.endpoint_config(assignment, attachment.aliases)
            body = {"Container": container_id, "EndpointConfig": endpoint}

            def connect(
                client: Client, network: str = attachment.network, body: Json = body
            ) -> None:
                client.post_json("/networks/{}/connect", network, body=body)

            try:
                await self._engine.act(connect)
            except EngineRefusalError as error:
                self._networks.doubt()
                raise refusals.refused(str(error)) from error

    async def start(self, container_id: ContainerId) -> None:
        async with self._starts:
            try:
                await self._engine.act(
                    lambda client: client.post_json("/containers/{}/start", container_id)
                )
            except EngineRefusalError as error:
                if _no_container(error):
                    raise NoContainerError(f"container {container_id} is gone") from error
                self._networks.doubt()  # the cause may be that one of them went away
                raise refusals.refused(str(error)) from error

    async def stop(self, container_id: ContainerId, grace_seconds: float | None = None) -> None:
        container = await self.inspect(container_id)
        if container is None or not container.alive:
            return
        grace = container.stop_grace_seconds if grace_seconds is None else grace_seconds
        ended = self._ends.setdefault(container_id, asyncio.Event())
        try:
            await self._signal(container_id, container.stop_signal)
            if not await self._ends_within(grace, container_id, ended):
                await self.kill(container_id)
                if not await self._ends_within(KILL_SECONDS_MAX, container_id, ended):
                    raise RuntimeFailedError(f"container {container.name} does not die")
        finally:
            self._ends.pop(container_id, None)

    async def _ends_within(
        self, seconds_max: float, container_id: ContainerId, ended: asyncio.Event
    ) -> bool:
        """Wait for an end; an event tells at once, looking now and then is the safety net."""
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds_max
        pauses = itertools.chain(STOP_LOOK_SECONDS, itertools.repeat(STOP_LOOK_SECONDS[-1]))
        for pause in pauses:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(pause, max(0.0, until - loop.time()))):
                    await ended.wait()
            ended.clear()  # look, even if the event was an old one
            container = await self.inspect(container_id)
            if container is None or not container.alive:
                return True
            if loop.time() >= until:
                break
        return False

    async def kill(self, container_id: ContainerId) -> None:
        await self._signal(container_id, "SIGKILL")

    async def _signal(self, container_id: ContainerId, signal: str) -> None:
        await self._engine.act_if_possible(
            lambda client: client.post_json("/containers/{}/kill", container_id, signal=signal)
        )

    async def remove(self, container_id: ContainerId) -> None:
        await self._engine.act_if_possible(
            lambda client: client.delete_path("/containers/{}", container_id, force=1, v=1)
        )
        until = asyncio.get_running_loop().time() + REMOVAL_SECONDS_MAX
        while await self._inspect(container_id) is not None:
            if asyncio.get_running_loop().time() > until:
                raise RuntimeFailedError(f"container {container_id} cannot be removed")
            await asyncio.sleep(STOP_LOOK_SECONDS[-1])  # somebody else removes it

    # --- streams ------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def listen(self, owner: Owner) -> AsyncIterator[AsyncIterator[ContainerHint]]:
        filters = json.dumps(
            {
                "type": ["container"],
                "event": list(WATCHED),
                "label": _pairs(labels.owner_labels(owner)),
            }
        )
        self._networks.doubt()
        try:
            async with self._engine.stream(
                lambda client: client.open_stream("GET", "/events", filters=filters), json_lines
            ) as events:
                yield self._hints(events)
        finally:
            self._networks.doubt()
            self._engine.reset()

    async def _hints(self, events: AsyncIterator[Json]) -> AsyncIterator[ContainerHint]:
        async for event in events:
            container_id = ContainerId(event["Actor"]["ID"])
            action = event["Action"]
            if action == "die" and container_id in self._ends:
                self._ends[container_id].set()
            yield ContainerHint(
                container_id,
                TaskId(event["Actor"]["Attributes"].get(labels.TASK, "")),
                began=action in BEGINNINGS,
                signalled=action == "kill",
            )
        raise RuntimeUnavailableError("Docker ended the stream of events")

    @contextlib.asynccontextmanager
    async def logs(
        self, container_id: ContainerId, wanted: LogRange
    ) -> AsyncIterator[AsyncIterator[LogLine]]:
        inspected = await self._inspect(container_id)
        if inspected is None:
            raise NoContainerError(f"container {container_id} is gone")

        def begin(client: Client) -> requests.Response:
            return client.open_stream(
                "GET",
                "/containers/{}/logs",
                container_id,
                stdout=1,
                stderr=1,
                timestamps=1,
                follow=int(wanted.follow),
                tail=wanted.tail if wanted.tail >= 0 else "all",
                since=f"{wanted.since:.9f}",
            )

        def read(response: requests.Response) -> Iterator[LogLine]:
            if inspected["Config"]["Tty"]:
                return log_frames.read_terminal(response.raw.stream(TERMINAL_READ_BYTES))
            return log_frames.read(response.raw)

        try:
            async with self._engine.stream(begin, read) as lines:
                yield lines
        except EngineRefusalError as error:
            if _no_container(error):
                raise NoContainerError(f"container {container_id} is gone") from error
            raise refusals.refused(str(error)) from error
        except RuntimeFailedError as error:
            if "does not support reading" in str(error):
                raise CannotRunError(str(error)) from error
            raise

    # --- measuring ----------------------------------------------------------------------------

    async def usage(
        self, container_ids: Collection[ContainerId]
    ) -> Mapping[ContainerId, ContainerUsage]:
        unknown = [key for key in container_ids if key not in self._cgroups]
        inspected = await asyncio.gather(*map(self._inspect, unknown))
        pids = {
            ContainerId(one["Id"]): int(one["State"]["Pid"])
            for one in inspected
            if one is not None and one["State"]["Running"]
        }
        return await asyncio.to_thread(self._cgroups.measure, set(container_ids), pids)

    async def aclose(self) -> None:
        self._engine.close()


_Summary = tuple[str, str]


def _summary(row: Json) -> _Summary:
    """Return what of a listing's row changes when its container does.

    That is its state, and what stands in brackets in "Up 2 minutes (healthy)" and
    "Exited (0) 2 minutes ago".
    """
    bracketed = re.search(r"\(.*?\)", row["Status"])
    return row["State"], bracketed[0] if bracketed else ""


def _pairs(marks: Mapping[str, str]) -> list[str]:
    return [f"{key}={value}" for key, value in marks.items()]


def _no_container(error: EngineRefusalError) -> bool:
    return error.status == HTTPStatus.NOT_FOUND and "such container" in str(error).lower()


def _has_tag(image: str) -> bool:
    return "@" in image or ":" in image.rpartition("/")[2]

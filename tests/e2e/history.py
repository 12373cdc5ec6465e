"""What has happened to containers, as the Docker daemons tell it afterwards.

All hosts of the lab share the machine's clock, so their events are one history.
"""

import time
from collections.abc import Collection
from dataclasses import dataclass

from tests.e2e.cluster import LabCluster, Seen


@dataclass(frozen=True, slots=True, order=True)
class Event:
    """Something that a daemon has told of a container."""

    at_nanos: int
    action: str
    container: str
    host: str


def history(cluster: LabCluster, service: str, *, since: Collection[Seen] = ()) -> list[Event]:
    """Return the events of a service's containers since all of *since* were up and healthy."""
    known = {one.id for one in since}
    now = f"{time.time():.6f}"  # up to a moment that has passed, the daemon's answer ends
    found = sorted(
        Event(event["timeNano"], event["Action"], event["id"], host.name)
        for host in cluster.docker_hosts
        for event in host.docker.api.events(  # type: ignore[call-overload]  # of fractions, too
            since=0,
            until=now,
            filters={"type": "container", "label": f"shoal.service.name={service}"},
            decode=True,
        )
    )
    ups = [
        index
        for index, event in enumerate(found)
        if event.container in known and event.action in ("start", "health_status: healthy")
    ]
    return found[max(ups, default=-1) + 1 :]


def fewest_running(cluster: LabCluster, service: str, *, since: Collection[Seen]) -> int:
    """Return how few of a service's containers ran at a time since all of *since* were up."""
    running = {one.id for one in since}
    fewest = len(running)
    for event in history(cluster, service, since=since):
        if event.action == "start":
            running.add(event.container)
        if event.action == "die":
            running.discard(event.container)
        fewest = min(fewest, len(running))
    return fewest

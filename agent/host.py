"""What the agent says of its host, and what it measures of it."""

import socket
from collections.abc import Sequence
from typing import Protocol

import psutil

from agent.runtime.interface import EngineInfo
from agent.settings import AgentSettings
from cluster import __version__
from cluster.model import NodeDescription
from cluster.resources import NANOS_PER_CPU

_PERCENT = 100


class HostMeter(Protocol):
    """Measures what the whole host uses."""

    def measure(self) -> tuple[int, int]:
        """Return the CPU in use, in nanos and on average since the last call, and the bytes."""


class PsutilMeter:
    """Asks the kernel."""

    def measure(self) -> tuple[int, int]:
        memory = psutil.virtual_memory()
        cpus = psutil.cpu_count() or 1
        cpu_nanos = round(psutil.cpu_percent() / _PERCENT * cpus * NANOS_PER_CPU)
        return cpu_nanos, memory.total - memory.available


def describe(settings: AgentSettings, info: EngineInfo) -> NodeDescription:
    """Return the node's description from what the engine says and what was configured."""
    return NodeDescription(
        hostname=settings.hostname or info.hostname,
        address=settings.address or address_towards(settings.managers),
        platform=info.platform,
        capacity=settings.offered(info.capacity),
        engine_version=info.version,
        engine_labels=dict(info.labels),
        agent_version=__version__,
        generic_items=settings.generic_items(),
    )


def address_towards(managers: Sequence[str]) -> str:
    """Return our address on the way to the first manager that there is a way to; else empty.

    Connecting a datagram socket sends nothing: the kernel only picks the route.
    """
    for manager in managers:
        host, _, port = manager.rpartition(":")
        try:
            found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_DGRAM)
            for family, kind, protocol, _, address in found:
                with socket.socket(family, kind, protocol) as probe:
                    probe.connect(address)
                    return str(probe.getsockname()[0])
        except OSError:
            continue
    return ""

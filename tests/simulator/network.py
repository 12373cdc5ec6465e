"""The network between hosts, as TCP shows it to programs.

What is sent over a connection arrives in order, later, or never; it is not lost in the middle:
where a link is cut the rest waits, until the link is back or a side gives the connection up
because its pings get no answer. Who is killed has its connections reset by the kernel, if the
way is open; who loses power falls silent.
"""

import random
from collections.abc import Callable
from typing import Any, Protocol

from tests.simulator.loop import Handle, Process, SimulatorLoop

# One way, between hosts of one site.
DELAY_SECONDS = (0.0002, 0.001)

_SHORTEST_SECONDS = DELAY_SECONDS[0]
_VARIES_SECONDS = DELAY_SECONDS[1] - DELAY_SECONDS[0]

# Pings go out after ten quiet seconds and may take three: as the transports are configured.
PING_SECONDS = (3.0, 13.0)

# gRPC gives one attempt to connect so long.
CONNECT_SECONDS = 20.0
CONNECT_LOOK_SECONDS = 0.5


class Peer(Protocol):
    """An end of a connection: what the program is told of it."""

    def lost(self, why: str) -> None:
        """Take note that the connection has ended; it is called at most once."""


class Acceptor(Protocol):
    """Takes what clients connect to."""

    process: Process
    host: str

    def accepted(self, connection: "Connection") -> Peer:
        """Return the server's end of a new connection."""


class End:
    """One side of a connection."""

    def __init__(self, process: Process, host: str) -> None:
        self.process = process
        self.host = host
        self.peer: Peer | None = None
        self.is_open = True
        self.pinging: Handle | None = None
        self.waiting: list[tuple[Callable[..., None], tuple[Any, ...]]] = []  # for the link


class Connection:
    """Between a client's end and a server's; messages are calls of the other side's methods."""

    def __init__(self, network: "Network", client: End, server: End) -> None:
        self._network = network
        self.client = client
        self.server = server

    def send(self, end: End, flow: "Flow", deliver: Callable[..., None], *args: Any) -> None:
        """Call *deliver* on the other side, after everything sent on the same *flow*."""
        if not end.is_open or not end.process.alive:
            return
        other = self.server if end is self.client else self.client
        network = self._network
        if end.waiting or not network.is_open(end.host, other.host):
            end.waiting.append((deliver, args))
            return
        at = network.arrival(end.host, other.host)
        if at < flow.at:
            at = flow.at
        flow.at = at
        network.at(at, self._arrived, other, deliver, args)

    def other(self, end: End) -> End:
        return self.server if end is self.client else self.client

    def close(self, end: End, why: str) -> None:
        """Close *end*; the other side is told if the way is open, as by a kernel."""
        if not end.is_open:
            return
        end.is_open = False
        other = self.other(end)
        if other.is_open and self._network.is_open(end.host, other.host):
            at = self._network.arrival(end.host, other.host)
            self._network.at(at, self.dropped, other, why)
        if not other.is_open:
            self._network.forget(self)
        self.look()

    def look(self) -> None:
        """See whether pings still get their answers, after something has changed."""
        for end in (self.client, self.server):
            other = self.other(end)
            silent = not (
                other.is_open
                and not other.process.paused
                and self._network.is_open(end.host, other.host)
                and self._network.is_open(other.host, end.host)
            )
            if silent and end.is_open and not end.process.paused and end.process.alive:
                if end.pinging is None:
                    seconds = self._network.source.uniform(*PING_SECONDS)
                    end.pinging = self._network.later(seconds, self._unanswered, end)
            elif end.pinging is not None:
                end.pinging.cancel()
                end.pinging = None

    def flush(self) -> None:
        """Send what has waited for a link, if it is back."""
        for end in (self.client, self.server):
            other = self.other(end)
            if not self._network.is_open(end.host, other.host):
                continue
            if not end.is_open and other.is_open:  # a retransmission meets nobody: reset
                self._network.later(DELAY_SECONDS[1], self.dropped, other, "connection reset")
            waiting, end.waiting = end.waiting, []
            at = self._network.arrival(end.host, other.host)
            for deliver, args in waiting:
                self._network.at(at, self._arrived, other, deliver, args)

    def _arrived(self, end: End, deliver: Callable[..., None], args: tuple[Any, ...]) -> None:
        if end.is_open and end.process.alive:
            deliver(*args)
        elif end.process.alive or self._network.is_up(end.host):
            other = self.other(end)
            if other.is_open and self._network.is_open(end.host, other.host):
                self.dropped(other, "connection reset")

    def _unanswered(self, end: End) -> None:
        end.pinging = None
        if end.is_open:
            self._lost(end, "ping timeout")
            self.close(end, "ping timeout")

    def dropped(self, end: End, why: str) -> None:
        """Let *end* see that the other side has closed."""
        if end.is_open:
            self._lost(end, why)
            end.is_open = False
            if not self.other(end).is_open:
                self._network.forget(self)
            self.look()

    def _lost(self, end: End, why: str) -> None:
        if end.peer is not None and end.process.alive:
            end.peer.lost(why)


class Flow:
    """What arrives in the order in which it was sent.

    Attributes:
        at: when the last of it arrives.
    """

    __slots__ = ("at",)

    def __init__(self) -> None:
        self.at = 0.0


class Network:
    """Hosts, links, listeners and connections."""

    def __init__(self, loop: SimulatorLoop, source: random.Random) -> None:
        self.source = source
        self._chance = source.random
        self.at = loop.at
        self._loop = loop
        self._cut: dict[tuple[str, str], int] = {}  # how many faults cut it; ordered pairs
        self._slow: dict[tuple[str, str], float] = {}
        self._off: dict[str, None] = {}
        self._listeners: dict[str, Acceptor] = {}
        self._connections: dict[Connection, None] = {}

    # --- what faults do -----------------------------------------------------------------------

    def cut(self, sender: str, receiver: str) -> None:
        """Let nothing pass from one host to the other, until as many times mended."""
        self._cut[sender, receiver] = self._cut.get((sender, receiver), 0) + 1
        self._look(sender, receiver)

    def mend(self, sender: str, receiver: str) -> None:
        left = self._cut.get((sender, receiver), 0) - 1
        if left > 0:
            self._cut[sender, receiver] = left
        else:
            self._cut.pop((sender, receiver), None)
        self._look(sender, receiver)

    def slow(self, sender: str, receiver: str, seconds: float) -> None:
        """Let all that passes take up to so much longer; 0 ends that."""
        self._slow[sender, receiver] = seconds

    def power_off(self, host: str) -> None:
        self._off[host] = None
        self._look(host)

    def power_on(self, host: str) -> None:
        self._off.pop(host, None)
        self._look(host)

    def killed(self, process: Process, *, silently: bool) -> None:
        """Let the kernel close what a process had open; *silently* if the host is gone too."""
        for address, acceptor in list(self._listeners.items()):
            if acceptor.process is process:
                del self._listeners[address]
        for connection in list(self._connections):
            for end in (connection.client, connection.server):
                if end.process is process:
                    if silently:
                        end.is_open = False
                        connection.look()
                    else:
                        connection.close(end, "connection reset")

    def paused_or_resumed(self, process: Process) -> None:
        for connection in list(self._connections):
            if process in (connection.client.process, connection.server.process):
                connection.look()

    # --- what connections ask -----------------------------------------------------------------

    def is_up(self, host: str) -> bool:
        return host not in self._off

    def is_open(self, sender: str, receiver: str) -> bool:
        if not self._cut and not self._off:
            return True
        return (
            (sender, receiver) not in self._cut
            and sender not in self._off
            and receiver not in self._off
        )

    def arrival(self, sender: str, receiver: str) -> float:
        """Return when what is sent now arrives, in true time."""
        delay = _SHORTEST_SECONDS + _VARIES_SECONDS * self._chance()
        if self._slow and (more := self._slow.get((sender, receiver), 0.0)):
            delay += more * self.source.random()
        return self._loop.now + delay

    def later(self, seconds: float, callback: Callable[..., None], *args: Any) -> Handle:
        return self.at(self._loop.now + seconds, callback, *args)

    # --- connecting ---------------------------------------------------------------------------

    def listen(self, address: str, acceptor: Acceptor) -> None:
        self._listeners[address] = acceptor

    def unlisten(self, address: str, acceptor: Acceptor) -> None:
        if self._listeners.get(address) is acceptor:
            del self._listeners[address]

    def connect(
        self,
        address: str,
        client: End,
        connected: Callable[[Connection], None],
        failed: Callable[[str], None],
    ) -> None:
        """Call one of the two, some time."""
        give_up_at = self._loop.now + CONNECT_SECONDS
        host = address.rpartition(":")[0]
        self.at(
            self.arrival(client.host, host),
            self._try,
            address,
            client,
            connected,
            failed,
            give_up_at,
        )

    def _try(
        self,
        address: str,
        client: End,
        connected: Callable[[Connection], None],
        failed: Callable[[str], None],
        give_up_at: float,
    ) -> None:
        host = address.rpartition(":")[0]
        if not client.process.alive or not client.is_open:
            return
        acceptor = self._listeners.get(address)
        passes = self.is_open(client.host, host) and self.is_open(host, client.host)
        if passes and acceptor is None:
            self.at(self.arrival(host, client.host), failed, "connection refused")
        elif passes and acceptor is not None and not acceptor.process.paused:
            server = End(acceptor.process, acceptor.host)
            connection = Connection(self, client, server)
            self._connections[connection] = None
            server.peer = acceptor.accepted(connection)
            self.at(self.arrival(host, client.host), self._connected, connection, connected)
        elif self._loop.now >= give_up_at:
            failed("connection timed out")
        else:
            self.later(
                CONNECT_LOOK_SECONDS, self._try, address, client, connected, failed, give_up_at
            )

    def _connected(self, connection: Connection, connected: Callable[[Connection], None]) -> None:
        if connection.client.process.alive and connection.client.is_open:
            connected(connection)
        else:
            connection.close(connection.client, "connection reset")
            connection.dropped(connection.server, "connection reset")

    def forget(self, connection: Connection) -> None:
        self._connections.pop(connection, None)

    def _look(self, *hosts: str) -> None:
        for connection in list(self._connections):
            if {connection.client.host, connection.server.host}.issuperset(hosts):
                connection.flush()
                connection.look()

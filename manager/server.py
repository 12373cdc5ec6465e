"""One manager, put together: store, view, membership, election, sessions, and the server.

    store ──▶ view ──▶ control, dispatch ──▶ gRPC server
      └────▶ membership ──▶ election ──▶ reconcilers, while this manager leads

The server starts when the view is complete, and goes on when the store is away: what is read
is then as old as the outage, writes are refused, and all recovers by itself. On a stop the
manager takes no more calls, gives up leading so that another leads at once, sends its agents
away so that they go to others, and ends its lease.
"""

import asyncio
import logging
import platform
import random
from collections.abc import Callable

from cluster import __version__
from cluster.clock import Clock
from cluster.errors import UnavailableError
from cluster.ids import IdSource
from cluster.model import Manager, ManagerId
from cluster.task_group import TaskGroup
from manager import reconcilers
from manager.config import host_and_port
from manager.control.access import Access
from manager.control.cluster import Clusters, Members, establish
from manager.control.events import Events
from manager.control.logs import Logs
from manager.control.nodes import Nodes
from manager.control.picture import Picture
from manager.control.rebalancing import Rebalancing
from manager.control.rollouts import Rollouts
from manager.control.services import Services
from manager.control.stacks import Stacks
from manager.control.tasks import Tasks
from manager.control.usage import Usages
from manager.control.watching import Watching
from manager.control.whatif import WhatIf
from manager.dispatch.assignments import Assignments
from manager.dispatch.log_broker import LogBroker
from manager.dispatch.session_keys import SessionKeys
from manager.dispatch.sessions import Sessions
from manager.dispatch.statuses import Statuses
from manager.election import Election, Leadership
from manager.forecast.desk import Forecasts
from manager.forecast.pinned import PinnedDeploys
from manager.journal.writer import Journal
from manager.membership import LEASE_SECONDS, HeldLease, Membership
from manager.obituaries import Obituaries, UntilGone, until_refused
from manager.rpc.control import ControlEdge, ControlParts
from manager.rpc.dispatch import DispatchEdge
from manager.rpc.peers import GrpcPeers
from manager.rpc.server import make_server
from manager.rpc.transport import Transport
from manager.store.interface import LeaseId, Store, StoreUnavailableError
from manager.view import View, follow

log = logging.getLogger(__name__)

# Calls that run when the manager stops get so long to end: streams were told to go before.
CALLS_GRACE_SECONDS = 1.0

# A manager that has lost its lease and gets no other keeps its agents for so long: less than the
# grace that their nodes have, so that they find another manager in time if there is one, and
# enough for a store that changes its leader.
LEASELESS_SECONDS = 1.5

# Between attempts while the store does not answer at the start.
RETRY_SECONDS = 0.5


class ManagerServer:
    """A manager from its start to its stop."""

    def __init__(
        self,
        store: Store,
        members: Members,
        *,
        listen: str,
        advertise: str = "",
        transport: Transport,
        clock: Clock,
        source: random.Random,
        lease_seconds: int = LEASE_SECONDS,
        until_gone: UntilGone = until_refused,
    ) -> None:
        """Bind the port; serve nothing yet.

        Args:
            store: the cluster's state.
            members: tells how the store's members do.
            listen: host:port; port 0 takes any that is free.
            advertise: host:port that others are told; empty: that of *listen*.
            transport: of the server, and of calls to other managers.
            clock: the time.
            source: of ids and jitter.
            lease_seconds: a manager of which nothing is known is replaced after so long.
            until_gone: returns when the manager that was at an address is gone.

        Raises:
            InvalidError: the address cannot be bound.
        """
        self._store = store
        self._clock = clock
        self._source = source
        self._ids = IdSource(source)
        self.view = View()
        self.id = ManagerId(self._ids.new())
        self._peers = GrpcPeers(transport)
        journal = Journal(self.view, clock, self._ids, self.id)
        access = Access(store, self.view, journal)
        keys = SessionKeys(store, self.view, journal, self._lease)
        self._sessions = Sessions(
            keys,
            self.view,
            manager_id=self.id,
            ids=self._ids,
            clock=clock,
            source=source,
        )
        self._assignments = Assignments(self.view)
        self._statuses = Statuses(store, self.view, journal)
        self._watching = Watching(self.view)
        broker = LogBroker(self._sessions, self._ids)
        self._usages = usages = Usages(self.view, self.id, self._sessions.usage, self._peers)
        self._picture = Picture(self.view)
        tasks = Tasks(access, self._picture, clock)
        stacks = Stacks(access, self._ids, clock)
        forecasts = Forecasts(access, usages, clock, source)
        control = ControlParts(
            clusters=Clusters(access, self.id, members),
            nodes=Nodes(access, usages, clock),
            usages=usages,
            services=Services(access, self._ids, clock),
            rollouts=Rollouts(access, clock),
            tasks=tasks,
            what_if=WhatIf(access),
            rebalancing=Rebalancing(access, self._picture, clock),
            stacks=stacks,
            watching=self._watching,
            logs=Logs(access, broker, self._peers, self.id),
            events=Events(store, access, tasks),
            forecasts=forecasts,
            pinned=PinnedDeploys(self.view, stacks, forecasts),
        )
        dispatch = DispatchEdge(self._sessions, self._assignments, self._statuses, broker)
        self._server = make_server(ControlEdge(control), dispatch, listen, transport)
        host, _, _ = listen.rpartition(":")
        self.address = advertise or f"{host}:{self._server.port}"
        host_and_port("advertise", self.address)
        self._membership = Membership(
            store,
            clock,
            Manager(
                id=self.id,
                address=self.address,
                hostname=platform.node(),
                started_at=clock.now(),
                software_version=__version__,
            ),
            source,
            lease_seconds=lease_seconds,
        )
        self._election = Election(store, self._membership, source)
        self._obituaries = Obituaries(store, self.view, self._membership.manager, until_gone)
        self._leaseless: asyncio.TimerHandle | None = None

    async def run(self, stopping: asyncio.Event, ready: Callable[[], None]) -> None:
        """Serve until *stopping* is set, then leave in good order.

        Args:
            stopping: set to stop; may be set before all has started.
            ready: called once calls are answered.
        """
        try:
            async with TaskGroup() as group:
                following = group.create_task(
                    follow(self._store, self.view, self._source), name="view"
                )
                membership = group.create_task(self._membership.run(), name="membership")
                if await self._has_started(group, stopping):
                    ready()
                    await self._serve(group, stopping)
                membership.cancel()  # which ends the lease
                await asyncio.wait({membership})
                following.cancel()
        finally:
            await self._server.stop(0)
            await self._peers.aclose()
            await self._store.aclose()

    async def _has_started(self, group: TaskGroup, stopping: asyncio.Event) -> bool:
        """Start; return False if we are to stop before that is done."""
        starting = group.create_task(self._start(), name="start")
        stop = group.create_task(stopping.wait(), name="stop")
        await asyncio.wait({starting, stop}, return_when=asyncio.FIRST_COMPLETED)
        started = starting.done()
        starting.cancel()
        stop.cancel()
        return started

    async def _start(self) -> None:
        while True:
            try:
                revision = await establish(self._store, self._ids, self._clock)
                break
            except StoreUnavailableError as error:
                log.warning("waits for the store", extra={"error": str(error)})
                await asyncio.sleep(RETRY_SECONDS * self._source.uniform(0.75, 1.25))
        await self.view.reached(revision)
        await self._membership.held()  # without a lease no agent could have a session
        while self.id not in self.view.managers:  # agents and clients are told of us too
            await self.view.reached(self.view.revision + 1)
        await self._server.start()
        log.info("serves", extra={"manager": self.id, "address": self.address})

    async def _serve(self, group: TaskGroup, stopping: asyncio.Event) -> None:
        self._membership.subscribe(self._lease_changed)
        sessions = group.create_task(self._sessions.run(), name="sessions")
        election = group.create_task(self._election.lead(self._lead), name="election")
        obituaries = group.create_task(self._obituaries.run(), name="obituaries")
        await stopping.wait()
        log.info("stops", extra={"manager": self.id})
        refusing = group.create_task(self._server.stop(CALLS_GRACE_SECONDS), name="stop serving")
        election.cancel()  # which gives the election key back
        why = UnavailableError("this manager is stopping: go to another")
        self._sessions.close(why)
        self._watching.close(why)
        await asyncio.wait({refusing, election})
        await self._statuses.close()
        self._assignments.close()
        sessions.cancel()
        obituaries.cancel()

    async def _lead(self, leadership: Leadership) -> None:
        await reconcilers.lead(
            leadership.create_revision,
            self._store,
            self.view,
            self._clock,
            self._source,
            joined_at=leadership.lease.asked_at,
            measure=self._usages.everywhere,
            find_moves=self._picture.moves,
        )

    def _lease(self) -> LeaseId | None:
        held = self._membership.lease
        # By the clock, for a manager that was paused may wake up here.
        return held.id if held and held.seconds_left() > 0 else None

    def _lease_changed(self, held: HeldLease | None) -> None:
        if self._leaseless is not None:
            self._leaseless.cancel()
            self._leaseless = None
        if held is not None:
            self._sessions.lease_replaced()
        else:
            self._leaseless = asyncio.get_running_loop().call_later(
                LEASELESS_SECONDS, self._send_agents_away
            )

    def _send_agents_away(self) -> None:
        """Let agents go to managers that may still have a store; there is none: keep them."""
        if self.view.managers.keys() - {self.id}:
            self._sessions.send_away(UnavailableError("this manager has no lease: go to another"))

"""Planted bugs: what the simulator must find, or it proves nothing by finding nothing.

Each is a patch of production code (or of the store's client, where the bug would be in that for
etcd) as somebody might really get it wrong. ``planted`` puts one in for the length of a block.
"""

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from unittest import mock

import msgspec

from agent import guard
from agent import reconciler as agent_reconciler
from agent.assignments import AssignmentSet
from agent.heartbeats import Heartbeats
from agent.observed import Observed
from agent.outbox import Outbox
from agent.session import Session as AgentSession
from agent.worker import Worker
from cluster import dependencies
from cluster.model import Availability, NodeState, NodeStatus, Session, Task, TaskState, TaskStatus
from manager import disruption
from manager import view as views
from manager.committer import Change, Committer
from manager.control import services as control_services
from manager.control.access import Access
from manager.dispatch import statuses
from manager.dispatch.assignments import Assignments
from manager.election import Leadership
from manager.membership import HeldLease
from manager.reconcilers import (
    autoscaling,
    jobs,
    leaving,
    loop,
    lost,
    nodes,
    reaper,
    restart,
    scheduling,
)
from manager.reconcilers.jobs import runs
from manager.reconcilers.services import rollout, tasks, turns
from manager.reconcilers.services.places import Stand
from manager.reconcilers.services.reconciler import ServiceReconciler
from manager.reconcilers.services.turns import Turns
from manager.store import keys
from manager.store.interface import (
    Guard,
    Listing,
    StoreUnavailableError,
    Unchanged,
    WatchBatch,
    Write,
)
from manager.store.memory import MemoryStore
from manager.view import View
from scheduler import fill, filters, holds, items
from scheduler.filters import has_ports_free
from scheduler.ledger import Ledger
from scheduler.terrain import Terrain
from tests.simulator.store import StoreClient

# Longer than any run: of what is done now and then, not at all.
DAY_SECONDS = 86_400.0

Patch = tuple[Any, str, Any]


@dataclass(frozen=True)
class Mutation:
    """A bug.

    Attributes:
        about: what somebody got wrong.
        patches: return owner, name and replacement of each attribute that is wrong.
        invariants: which promises it may be found to break.
        seed: the first that finds it, as far as is known: it is tried first.
    """

    name: str
    about: str
    patches: Callable[[], Sequence[Patch]]
    invariants: tuple[str, ...]
    seed: int = 1


@contextlib.contextmanager
def planted(mutation: Mutation) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for owner, name, replacement in mutation.patches():
            stack.enter_context(mock.patch.object(owner, name, replacement))
        yield


# --- the store and the view -----------------------------------------------------------------------


def no_fencing() -> Sequence[Patch]:
    """A leader's writes rest on what they change, and not on that it still leads."""
    original = StoreClient.commit

    def as_it_is(self: Any, guard: Any) -> Any:
        if not (isinstance(guard, Unchanged) and guard.key == keys.LEADER and guard.mod_revision):
            return guard
        item = self._shared.get(keys.LEADER)
        return Unchanged(keys.LEADER, item.mod_revision if item else 0)

    async def commit(self: Any, guards: Sequence[Guard], writes: Sequence[Write]) -> int:
        return await original(self, [as_it_is(self, guard) for guard in guards], writes)

    return ((StoreClient, "commit", commit),)


def lease_believed_too_long() -> Sequence[Patch]:
    original = HeldLease.renewed

    def renewed(self: HeldLease, asked_at: float, ttl_seconds: float) -> None:
        original(self, asked_at + 5.0, ttl_seconds)

    return ((HeldLease, "renewed", renewed),)


def never_steps_down() -> Sequence[Patch]:
    def seconds_left(self: Leadership) -> float:
        return 0.0 if self.lost.is_set() else 3600.0

    return ((Leadership, "seconds_left", seconds_left), (HeldLease, "seconds_left", _an_hour))


def _an_hour(self: HeldLease) -> float:
    return 0.0 if self.lost.is_set() else 3600.0


def watch_skips_one_at_resume() -> Sequence[Patch]:
    watched = StoreClient._watched

    async def noting(self: Any) -> None:
        try:
            await watched(self)
        except StoreUnavailableError:
            self.was_cut = True
            raise

    async def watch(self: Any, prefix: str, after: int) -> Any:
        async with contextlib.aclosing(MemoryStore.watch(self, prefix, after)) as batches:
            async for batch in batches:
                if getattr(self, "was_cut", False) and batch.events and prefix == "/shoal/v1/":
                    self.was_cut = False
                    yield WatchBatch(batch.revision, batch.events[1:])
                else:
                    yield batch

    return ((StoreClient, "_watched", noting), (StoreClient, "watch", watch))


def timed_out_write_applied_twice() -> Sequence[Patch]:
    """The fate of an unknown write is not settled before deciding anew."""

    async def settle(self: Any) -> None:
        return

    return ((Committer, "settle", settle),)


def relist_keeps_what_is_gone() -> Sequence[Patch]:
    def listed(self: Any, listing: Listing) -> None:
        self._advance(listing.revision, [self._take(item) for item in listing.items])

    return ((View, "listed", listed),)


def no_recheck_after_relist() -> Sequence[Patch]:
    """What a relist brings is not looked at; nor, as else after half a minute, is all there is."""
    original = View.listed

    def listed(self: Any, listing: Listing) -> None:
        listeners, self._listeners = self._listeners, []
        try:
            original(self, listing)
        finally:
            self._listeners = listeners

    return ((View, "listed", listed), (loop, "RESYNC_SECONDS", DAY_SECONDS))


def own_writes_overwrite_newer() -> Sequence[Patch]:
    """What we committed is taken though the watch has told of something newer."""
    original = View.committed

    def committed(self: Any, revision: int, writes: Any) -> None:
        before, self.revision = self.revision, 0
        try:
            original(self, revision, writes)
        finally:
            self.revision = max(before, self.revision)
            self._gone.clear()

    return ((View, "committed", committed),)


# --- what the leader decides ----------------------------------------------------------------------


def reservations_not_returned() -> Sequence[Patch]:
    def remove_task(self: Any, task_id: Any) -> None:
        self._unsized.pop(task_id, None)

    return ((Ledger, "remove_task", remove_task),)


def ports_not_looked_at() -> Sequence[Patch]:
    return tuple(
        (owner, name, tuple(each for each in getattr(owner, name) if each is not has_ports_free))
        for owner, name in ((filters, "FILTERS"), (fill, "PASSING"), (holds, "PASSING"))
    )


def constraints_not_looked_at() -> Sequence[Patch]:
    original = Terrain.holds

    def holds_anywhere(self: Any, constraint: Any) -> Any:
        return original(self, constraint) | True

    return ((Terrain, "holds", holds_anywhere),)


def devices_given_twice() -> Sequence[Patch]:
    """Each task is given the first of the devices, whoever has them."""

    def all_of(table: Any, row: int, kind: str) -> list[str]:
        return list(table.nodes[row].items.get(kind, ()))

    return ((items, "_free", all_of),)


def set_aside_for_nobody() -> Sequence[Patch]:
    original = Terrain.tolerated

    def tolerated(self: Any, names: Any) -> Any:
        return original(self, names) | True

    return ((Terrain, "tolerated", tolerated),)


def successor_does_not_wait() -> Sequence[Patch]:
    return ((Stand, "occupants", lambda _: []),)


def crash_loop_without_a_pause() -> Sequence[Patch]:
    return ((restart, "delay_seconds", lambda *_: 0.0),)


def versions_forgotten_too_soon() -> Sequence[Patch]:
    return ((reaper, "VERSIONS_KEPT", 0), (reaper, "_old_versions", _all_but_the_newest))


def _all_but_the_newest(facts: Any) -> Any:
    newest = facts.service.spec_version if facts.service else 0
    return [
        Change(drop=(version,), why="a planted bug")
        for number, version in facts.versions.items()
        if number != newest
    ]


def drain_forgotten() -> Sequence[Patch]:
    """Tasks of a drained node stay."""
    original = leaving.leaving

    def leaving_but_drained(facts: Any) -> Any:
        drained = facts.node.spec.availability is Availability.DRAIN
        return {} if drained else original(facts)

    return ((leaving, "leaving", leaving_but_drained),)


def dead_managers_session_believed() -> Sequence[Patch]:
    """A session counts though its key has gone with its manager."""
    original = View._index

    def index(self: Any, old: Any, new: Any) -> None:
        if isinstance(old, Session) and new is None:
            return
        original(self, old, new)

    return ((View, "_index", index),)


def silence_believed_to_be_life() -> Sequence[Patch]:
    """A node is taken as ready whatever its session says, and absence is not counted."""

    def status(facts: Any, node: Any, _: Any, message: str) -> Any:
        if node.status.state is NodeState.READY:
            return node.status
        return NodeStatus(state=NodeState.READY, message=message, changed_at=facts.now)

    return ((nodes, "_status", status),)


# Defects that the simulator has found, planted again.


def binding_rests_on_nothing() -> Sequence[Patch]:
    original = Change.guards

    def guards(self: Change) -> Any:
        return original(Change(save=self.save, drop=self.drop))

    return ((Change, "guards", guards),)


def waits_by_the_wall_clock() -> Sequence[Patch]:
    """How long a task is held back is counted from the times in its record."""

    def held_seconds(self: Any, task_id: Any) -> Any:
        task = self._view.tasks.get(task_id)
        return self._clock.now() - task.created_at if task else 0.0

    return ((ServiceReconciler, "_held_seconds", held_seconds),)


def delays_by_the_wall_clock() -> Sequence[Patch]:
    """When a task may start is what its record says, whatever clock that was written by."""
    return ((tasks, "delay_left", lambda facts, task: task.start_after - facts.now),)


def due_times_forgotten() -> Sequence[Patch]:
    """What is due is decided by today's clock alone, also where another was ahead before."""
    return ((runs, "CLOCK_ERROR_SECONDS_MAX", 0.0),)


def fenced_given_up_at_once() -> Sequence[Patch]:
    """A fenced task is replaced as soon as its node is down, while it may still run there."""
    return ((lost, "fence_seconds", lambda _: 0.0),)


def leases_ask_nobody() -> Sequence[Patch]:
    """A lease begins, and the next heartbeat comes when it would have come anyway."""
    return ((Heartbeats, "_hurry", lambda _: None),)


def guard_sleeps() -> Sequence[Patch]:
    """Nobody kills what an agent that is stopped does not stop."""
    return ((guard, "overdue", lambda *_: []),)


def preempts_beyond_budgets() -> Sequence[Patch]:
    """Who makes way is not asked whether enough of it is left."""
    return ((scheduling, "allowance", lambda *_: 1_000),)


def takings_under_way_unseen() -> Sequence[Patch]:
    """What another reconciler is just taking is not counted before it is written."""
    return ((View, "parting", lambda *_: contextlib.nullcontext()),)


def scaling_rounds_down() -> Sequence[Patch]:
    """A part of a task's load needs no task."""
    return ((autoscaling, "_tidy", math.floor),)


def budget_counts_nobody() -> Sequence[Patch]:
    """A move does not count who is missing already."""
    return ((disruption, "missing", lambda *_: 0),)


def last_good_task_not_spared() -> Sequence[Patch]:
    """A rollout does not mind that nobody knows yet whether the new version runs."""
    return ((Turns, "_may_lose", lambda *_, **__: True),)


def paused_rollout_goes_on() -> Sequence[Patch]:
    """That a rollout is paused is written, and nobody minds."""
    return ((turns, "HALTED", ()),)


def all_places_at_once() -> Sequence[Patch]:
    """A rollout goes about its places all at once, whatever is asked of it."""
    original = rollout.config_of

    def config_of(facts: Any, course: Any) -> Any:
        return msgspec.structs.replace(original(facts, course), parallelism=0)

    return ((turns, "config_of", config_of),)


def drain_leaves_what_waits() -> Sequence[Patch]:
    """What no agent knows of is asked to stop, and nobody does it."""

    def stop(task: Task, why: str, *, successor: tuple[Task, ...] = ()) -> Change:
        stopped = msgspec.structs.replace(task, desired_state=TaskState.SHUTDOWN)
        return Change(save=(stopped, *successor), why=why)

    return ((tasks, "stop", stop),)


def a_deploy_changes_the_mode() -> Sequence[Patch]:
    return ((control_services, "_check_lasting", lambda *_: None),)


# --- dispatch and control -------------------------------------------------------------------------


def status_goes_backwards() -> Sequence[Patch]:
    def advance(_: TaskStatus, report: TaskStatus) -> TaskStatus:
        return report

    return ((statuses, "advance", advance),)


def acknowledged_before_stored() -> Sequence[Patch]:
    """A request whose fate is unknown is answered as if it were done."""
    original = Access.change

    async def change(self: Any, decide: Any) -> Any:
        try:
            return await original(self, decide)
        except StoreUnavailableError:
            return decide().answer(self.view.revision + 1)

    return ((Access, "change", change),)


def changes_not_told_to_agents() -> Sequence[Patch]:
    """An agent hears of new tasks, but not of what becomes of them."""

    def route(self: Any, batch: views.Batch) -> None:
        for change in batch.changes:
            task = change.new
            known = isinstance(change.old, Task) and change.old.node_id
            if isinstance(task, Task) and not known:
                for feed in self._feeds.get(task.node_id, ()):
                    feed.changed[task.id] = None
                    feed.news.set()

    return ((Assignments, "_route", route),)


# --- agents ---------------------------------------------------------------------------------------


def adoption_forgotten() -> Sequence[Patch]:
    """An agent does not know the containers that it finds when it starts."""
    original = Observed.note_all

    def note_all(self: Any, ticket: Any, containers: Any) -> bool:
        return original(self, ticket, () if ticket == 1 else containers)

    return ((Observed, "note_all", note_all),)


def orphans_go_on() -> Sequence[Patch]:
    """A node that comes back is not made to stop what was given up there."""

    def clean_up(self: Any) -> Iterator[Any]:
        return iter(())

    return ((agent_reconciler._Task, "_clean_up", clean_up),)


def unassigned_go_on() -> Sequence[Patch]:
    return ((agent_reconciler, "_discard", lambda *_: iter(())),)


def stops_without_a_manager() -> Sequence[Patch]:
    """An agent whose session ends has nothing assigned, and acts on it."""
    original = AgentSession.run

    async def run(self: Any) -> Any:
        try:
            await original(self)
        finally:
            self._worker.assign(AssignmentSet(is_complete=True), is_whole=False)

    return ((AgentSession, "run", run),)


def newer_reports_lost() -> Sequence[Patch]:
    """An acknowledgement of an older report is taken for one of the newer."""

    def acknowledge(self: Any, batch: Any) -> None:
        for task_id in batch:
            self._unsent.pop(task_id, None)

    return ((Outbox, "acknowledge", acknowledge),)


def blind_between_hints() -> Sequence[Patch]:
    """Containers are not listed now and then: what no hint tells of is never seen."""
    original = Worker._list

    async def list_after_breaks_only(self: Any, *, after_break: bool = False) -> None:
        if after_break:
            await original(self, after_break=True)

    return ((Worker, "_list", list_after_breaks_only),)


def nothing_is_waited_for() -> Sequence[Patch]:
    return [(dependencies, "waits_for", lambda *_: [])]


def requests_for_runs_forgotten() -> Sequence[Patch]:
    real = runs.next_status

    def next_status(facts: Any) -> Any:
        status, why = real(facts)
        return msgspec.structs.replace(status, requests_done=0), why

    return [(jobs, "next_status", next_status)]


MUTATIONS: Sequence[Mutation] = (
    Mutation(
        "no-gate",
        "a service does not wait for what it depends on",
        nothing_is_waited_for,
        ("I9",),
        seed=5,
    ),
    Mutation(
        "run-again",
        "the leader forgets that it has answered a request for a run",
        requests_for_runs_forgotten,
        ("I17",),
        seed=5,
    ),
    Mutation("no-fencing", "a deposed leader's writes commit", no_fencing, ("I4", "I2")),
    Mutation(
        "lease-too-long",
        "a lease is believed five seconds too long",
        lease_believed_too_long,
        ("I4",),
    ),
    Mutation(
        "never-steps-down", "a leader does not mind its lease's end", never_steps_down, ("I4",)
    ),
    Mutation(
        "watch-skips",
        "a watch skips one event at resume",
        watch_skips_one_at_resume,
        ("I13", "I2", "I17"),
    ),
    Mutation(
        "applied-twice",
        "a timed-out write is applied after it was decided anew",
        timed_out_write_applied_twice,
        ("I2",),
        seed=5,
    ),
    Mutation(
        "relist-keeps",
        "a relist does not remove what is gone",
        relist_keeps_what_is_gone,
        ("I13",),
        seed=4,
    ),
    Mutation(
        "relist-silent",
        "nobody looks again after a relist",
        no_recheck_after_relist,
        ("I13", "I6"),
        seed=23,
    ),
    Mutation(
        "own-writes-win",
        "own writes overwrite what the watch told",
        own_writes_overwrite_newer,
        ("I13", "I2", "I3", "defect"),
    ),
    Mutation(
        "reservations-kept",
        "reservations are not returned",
        reservations_not_returned,
        ("I13", "defect"),
        seed=3,
    ),
    Mutation("ports-shared", "host ports are not looked at", ports_not_looked_at, ("I1",)),
    Mutation(
        "constraints-ignored", "constraints are not looked at", constraints_not_looked_at, ("I6",)
    ),
    Mutation(
        "no-wait",
        "a successor does not wait for its predecessor's end",
        successor_does_not_wait,
        ("I2",),
    ),
    Mutation("crash-loop", "a crash loop has no pauses", crash_loop_without_a_pause, ("I17",)),
    Mutation(
        "versions-lost",
        "versions are forgotten that tasks still run",
        versions_forgotten_too_soon,
        ("I19",),
    ),
    Mutation("drain-forgotten", "a drained node keeps its tasks", drain_forgotten, ("I13",)),
    Mutation(
        "dead-session",
        "the session key of a dead manager is believed",
        dead_managers_session_believed,
        ("I13",),
    ),
    Mutation(
        "always-ready", "a node that is silent stays ready", silence_believed_to_be_life, ("I13",)
    ),
    Mutation(
        "binding-unguarded",
        "a binding does not rest on the node's record",
        binding_rests_on_nothing,
        ("I6",),
    ),
    Mutation(
        "stop-by-wall-clock",
        "a predecessor's time to stop goes by the wall clock",
        waits_by_the_wall_clock,
        ("I2", "I13"),
    ),
    Mutation(
        "delay-by-wall-clock",
        "a restart's delay goes by the wall clock",
        delays_by_the_wall_clock,
        ("I13", "I17"),
    ),
    Mutation(
        "drain-leaves",
        "a drained node keeps a task that only waited",
        drain_leaves_what_waits,
        ("I13",),
    ),
    Mutation(
        "budget-counts-nobody",
        "a move does not count who is missing already",
        budget_counts_nobody,
        ("I8",),
        seed=3,
    ),
    Mutation(
        "last-good-lost",
        "a rollout takes the last task that ran well before the new version has",
        last_good_task_not_spared,
        ("I7",),
        seed=2,
    ),
    Mutation(
        "fence-at-once",
        "a fenced task is replaced at once",
        fenced_given_up_at_once,
        ("I2",),
        seed=4,
    ),
    Mutation(
        "lease-unasked",
        "a lease that begins asks for no manager's word",
        leases_ask_nobody,
        ("I13", "I17"),
        seed=2,
    ),
    Mutation(
        "guard-sleeps",
        "a stopped agent's containers outlive their lease",
        guard_sleeps,
        ("I2",),
        seed=7,
    ),
    Mutation(
        "preempts-too-many", "preemption heeds no budget", preempts_beyond_budgets, ("I8",), seed=9
    ),
    Mutation(
        "taken-unseen",
        "what another reconciler is taking is counted only once it is written",
        takings_under_way_unseen,
        ("I8", "I7"),
    ),
    Mutation(
        "devices-shared",
        "a device is given to two tasks",
        devices_given_twice,
        ("I1", "I19"),
        seed=6,
    ),
    Mutation(
        "set-aside-for-nobody",
        "hosts set aside take anybody",
        set_aside_for_nobody,
        ("I6",),
        seed=4,
    ),
    Mutation("scaled-down", "scaling rounds down", scaling_rounds_down, ("I13",), seed=11),
    Mutation("paused-goes-on", "a paused rollout goes on", paused_rollout_goes_on, ("I7",), seed=6),
    Mutation(
        "all-at-once",
        "a rollout heeds no parallelism",
        all_places_at_once,
        ("I7",),
        seed=2,
    ),
    Mutation(
        "due-again",
        "a due time gets another run when a clock goes back",
        due_times_forgotten,
        ("I20", "I17"),
    ),
    Mutation(
        "mode-changes", "a deploy changes a service's mode", a_deploy_changes_the_mode, ("I19",)
    ),
    Mutation("backwards", "a status goes backwards", status_goes_backwards, ("I3",)),
    Mutation(
        "acked-unstored",
        "a request is acknowledged that was not stored",
        acknowledged_before_stored,
        ("I5",),
    ),
    Mutation(
        "untold",
        "agents do not hear what becomes of their tasks",
        changes_not_told_to_agents,
        ("I13",),
    ),
    Mutation(
        "no-adoption",
        "an agent forgets its containers at its start",
        adoption_forgotten,
        ("I10", "I11"),
    ),
    Mutation(
        "orphans-run", "a returned node keeps running what moved", orphans_go_on, ("I13", "I10")
    ),
    Mutation(
        "unassigned-run", "containers without an assignment go on", unassigned_go_on, ("I13",)
    ),
    Mutation(
        "stops-alone",
        "an agent without a manager stops its containers",
        stops_without_a_manager,
        ("I11",),
    ),
    Mutation(
        "reports-lost",
        "the acknowledgement of an older report covers a newer",
        newer_reports_lost,
        ("I13",),
    ),
    Mutation(
        "blind", "containers are looked at only when a hint comes", blind_between_hints, ("I13",)
    ),
)

"""Sessions: who has one where, for how long, and what the store is told of it."""

import asyncio

import msgspec
import pytest

from cluster.errors import InvalidError, NotFoundError, UnavailableError
from cluster.images import TOLD_MAX
from cluster.model import (
    Availability,
    Cluster,
    ClusterId,
    ClusterSpec,
    Manager,
    ManagerId,
    NodeDescription,
    NodeId,
    NodeSpec,
    NodeState,
    NodeStatus,
    NodeUsage,
    SessionState,
)
from cluster.resources import Resources
from manager.dispatch.sessions import (
    HEARTBEATS_PER_SECOND_MAX,
    MISSED_MAX,
    period_seconds,
)
from manager.store import keys
from manager.store.interface import LeaseId
from tests.fakes.desks import HOST, N1, beat, desks
from tests.fakes.sites import node, node_id, until
from tests.fakes.virtual_time import LoopClock, in_virtual_time


@in_virtual_time
async def test_the_first_session_makes_the_node_known_and_later_ones_keep_what_operators_set() -> (
    None
):
    async with desks() as [desk]:
        opened = await desk.open(disk="ssd")
        known = desk.site.view.nodes[N1]
        assert known.spec == NodeSpec(labels={"disk": "ssd"})
        assert known.description == HOST
        stored = desk.key()
        assert stored is not None
        assert (stored.id, stored.manager_id, stored.state) == (
            opened.id,
            "m0",
            SessionState.LIVE,
        )
        drained = NodeSpec(availability=Availability.DRAIN, labels={"zone": "a"})
        await desk.site.write(type(known)(id=N1, spec=drained, description=HOST))
        bigger = NodeDescription(hostname="n1", capacity=Resources(cpu_nanos=2 * 10**9))
        await desk.sessions.open(N1, bigger, {"disk": "hdd"}, "cluster")
        again = desk.site.view.nodes[N1]
        assert (again.spec, again.description) == (drained, bigger)


@in_virtual_time
async def test_an_agent_of_another_cluster_or_without_sense_is_refused() -> None:
    async with desks() as [desk]:
        for node_name, description, cluster in (
            (N1, HOST, "another"),
            (NodeId("short"), HOST, ""),
            (N1, NodeDescription(capacity=Resources(cpu_nanos=-1)), ""),
            (N1, NodeDescription(hostname="x" * 2_000), ""),
            (N1, NodeDescription(capacity=Resources(generic={"gpu": -1})), ""),
            (N1, NodeDescription(capacity=Resources(generic={"": 1})), ""),
            (N1, NodeDescription(generic_items={"gpu": ("a",)}), ""),
            (
                N1,
                NodeDescription(
                    capacity=Resources(generic={"gpu": 2}), generic_items={"gpu": ("a", "a")}
                ),
                "",
            ),
        ):
            with pytest.raises(InvalidError):
                await desk.sessions.open(node_name, description, {}, cluster)
        assert not desk.site.view.nodes


@in_virtual_time
async def test_an_agent_hears_who_it_is_and_of_every_manager_that_comes() -> None:
    async with desks() as [desk]:
        session = await desk.open()
        messages = session.messages()
        first = await anext(messages)
        assert (first.session_id, first.cluster_id, first.managers) == (session.id, "cluster", ())
        assert first.heartbeat_period_seconds == 1.0
        waiting = asyncio.create_task(anext(messages))
        await asyncio.sleep(1)
        assert not waiting.done()
        await desk.site.write(Manager(id=ManagerId("m"), address="there:1"))
        assert (await waiting).managers == ("there:1",)
        await messages.aclose()


@in_virtual_time
async def test_a_node_is_silent_only_after_three_missed_beats() -> None:
    async with desks() as [desk]:
        session = await desk.open()
        await beat(desk, session, 10.0)
        await asyncio.sleep(MISSED_MAX - 1 - 0.1)
        before: object = session.ended
        assert before is None
        await asyncio.sleep(0.5)

        assert isinstance(session.ended, NotFoundError)
        await until(lambda: (key := desk.key()) and key.state is SessionState.SILENT)
        with pytest.raises(NotFoundError):
            desk.sessions.heartbeat(session.id, None)

        back = await desk.open()
        stored = desk.key()
        assert stored is not None
        assert (stored.id, stored.state) == (back.id, SessionState.LIVE)


@in_virtual_time
async def test_a_shorter_period_counts_from_when_the_agent_is_told_of_it() -> None:
    async with desks() as [desk]:
        slow, quick = ClusterSpec(heartbeat_period_seconds=5.0), ClusterSpec()
        await desk.site.write(Cluster(id=ClusterId("cluster"), spec=slow))
        session = await desk.open()
        await desk.site.write(Cluster(id=ClusterId("cluster"), spec=quick))

        assert desk.sessions.heartbeat(session.id, None, is_answered=False) == 5.0
        await asyncio.sleep(4.9)  # as the agent has been told
        assert desk.sessions.heartbeat(session.id, None) == 1.0
        await asyncio.sleep(MISSED_MAX + 0.5)
        assert session.ended is not None


@in_virtual_time
async def test_silence_is_written_once_the_store_is_back() -> None:
    async with desks() as [desk]:
        await desk.open()
        desk.site.store.away = True
        await asyncio.sleep(10)
        desk.site.store.away = False
        await until(lambda: (key := desk.key()) and key.state is SessionState.SILENT)


@in_virtual_time
async def test_a_manager_that_was_held_up_itself_blames_nobody() -> None:
    async with desks() as [desk]:
        session = await desk.open()
        await beat(desk, session, 2.0)
        later = LoopClock()
        # As after SIGSTOP: time has passed, no loop has run, heartbeats wait unread.
        desk.sessions._clock = later
        later.monotonic = lambda: asyncio.get_running_loop().time() + 30.0  # type: ignore[method-assign]
        await desk.sessions.sweep()
        assert session.ended is None
        await asyncio.sleep(MISSED_MAX + 0.5)
        assert session.ended is not None


@in_virtual_time
async def test_heartbeats_that_wait_unread_while_the_manager_is_busy_count() -> None:
    async with desks() as [desk]:
        session = await desk.open()

        async def read_late() -> None:  # as gRPC does: some turns of the loop for each call
            for _ in range(20):
                await asyncio.sleep(0)
            desk.sessions.heartbeat(session.id, None)

        await asyncio.sleep(MISSED_MAX - 0.1)
        assert session.ended is None
        await asyncio.sleep(0.11)
        late = asyncio.create_task(read_late())
        await desk.sessions.sweep()
        await late
        assert session.ended is None


@in_virtual_time
async def test_a_session_whose_stream_ends_takes_its_key_with_it() -> None:
    async with desks() as [desk]:
        session = await desk.open()
        desk.sessions.ended(session)
        await until(lambda: desk.key() is None)
        assert desk.site.view.nodes[N1]


@in_virtual_time
async def test_a_newer_session_supersedes_at_the_same_manager_and_its_key_stays() -> None:
    async with desks() as [desk]:
        old = await desk.open()
        new = await desk.open()
        assert isinstance(old.ended, NotFoundError)
        desk.sessions.ended(old)  # its stream ends only now
        await beat(desk, new, 5)
        stored = desk.key()
        assert stored is not None
        assert stored.id == new.id
        assert desk.sessions.of_node(N1) is new


@in_virtual_time
async def test_a_newer_session_supersedes_at_another_manager() -> None:
    async with desks(2) as [one, other]:
        old = await one.open()
        new = await other.open()
        await until(lambda: old.ended is not None)
        one.sessions.ended(old)
        await beat(other, new, 5)
        stored = other.key()
        assert stored is not None
        assert (stored.id, stored.manager_id) == (new.id, "m1")


@in_virtual_time
async def test_an_older_opening_never_stands_over_a_newer_one() -> None:
    async with desks(2) as [one, other]:
        one.site.store.gate.clear()  # its write is on the way, and held up
        stale = asyncio.create_task(one.open())
        await until(lambda: one.site.store.commits)
        new = await other.open()
        one.site.store.gate.set()
        with pytest.raises(UnavailableError, match="another session"):
            await stale
        stored = other.key()
        assert stored is not None
        assert stored.id == new.id


@in_virtual_time
async def test_an_opening_that_nobody_waits_for_any_more_leaves_no_key() -> None:
    async with desks() as [desk]:
        desk.site.store.answers_lost = 1  # applied, but nobody was told
        with pytest.raises(UnavailableError):
            await desk.open()
        assert desk.key() is not None
        await until(lambda: desk.key() is None)


@in_virtual_time
async def test_a_new_lease_gets_all_keys_and_none_that_went_elsewhere() -> None:
    async with desks(2) as [one, other]:
        stays = await one.open("n1")
        await one.open("n2")
        lease, one.lease = one.lease, None
        assert lease is not None
        await one.site.lag()
        await one.site.store.revoke_lease(lease)  # as if it had run out
        assert one.key("n1") is None
        newer = await other.open("n2")

        one.lease = await one.site.store.grant_lease(3)
        one.sessions.lease_replaced()
        await until(lambda: one.key("n1") is not None)
        stored, item = one.key("n1"), one.site.state.get(keys.session(N1))
        assert stored is not None
        assert item is not None
        assert (stored.id, item.lease) == (stays.id, one.lease)
        moved = one.key("n2")
        assert moved is not None
        assert moved.id == newer.id
        assert one.sessions.of_node(node_id("n2")) is None
        await one.site.follow()


@in_virtual_time
async def test_keys_move_to_a_new_lease_even_while_the_old_one_still_stands() -> None:
    async with desks() as [desk]:
        await desk.open()
        desk.lease = await desk.site.store.grant_lease(3)
        desk.sessions.lease_replaced()

        def lease() -> LeaseId:
            item = desk.site.state.get(keys.session(N1))
            assert item is not None
            return item.lease

        await until(lambda: lease() == desk.lease, seconds=1)


@in_virtual_time
async def test_a_key_that_vanished_is_written_again() -> None:
    async with desks() as [desk]:
        session = await desk.open()
        beating = asyncio.create_task(beat(desk, session, 10))
        stored = desk.key()
        assert stored is not None
        await desk.site.erase(stored)
        await until(lambda: desk.key() is not None)
        assert session.ended is None
        beating.cancel()


@in_virtual_time
async def test_a_removed_node_s_session_ends_and_its_agent_makes_it_known_anew() -> None:
    async with desks() as [desk]:
        session = await desk.open()
        stored = desk.key()
        assert stored is not None
        await desk.site.erase(desk.site.view.nodes[N1], stored)
        await until(lambda: session.ended is not None)
        assert desk.key() is None
        await desk.open(disk="ssd")
        assert desk.site.view.nodes[N1].spec.labels == {"disk": "ssd"}


@in_virtual_time
async def test_a_stopping_manager_sends_its_agents_away() -> None:
    async with desks() as [desk]:
        session = await desk.open()
        desk.sessions.close(UnavailableError("stops"))
        with pytest.raises(UnavailableError, match="stops"):
            await anext(session.messages())
        with pytest.raises(UnavailableError, match="stops"):
            await desk.open()


@in_virtual_time
async def test_without_a_lease_no_session_is_opened() -> None:
    async with desks() as [desk]:
        desk.lease = None
        with pytest.raises(UnavailableError, match="lease"):
            await desk.open()


@in_virtual_time
async def test_a_manager_whose_view_lags_opens_none() -> None:
    async with desks() as [desk]:
        await desk.site.write(node("other"))
        await desk.site.lag()
        with pytest.raises(UnavailableError, match="lags"):
            await desk.open()
        assert desk.sessions.of_node(N1) is None
        await desk.site.follow()
        await until(lambda: desk.key() is None)


@in_virtual_time
async def test_usage_is_the_session_s_node_s_whatever_the_agent_says() -> None:
    async with desks() as [desk]:
        session = await desk.open()
        desk.sessions.heartbeat(session.id, NodeUsage(node_id=NodeId("alien"), cpu_nanos=5))
        await asyncio.sleep(0.5)
        [heard] = desk.sessions.usage()
        assert (heard.usage.node_id, heard.usage.cpu_nanos) == (N1, 5)
        assert heard.heard_seconds_ago == pytest.approx(0.5)


@in_virtual_time
async def test_images_are_stored_with_the_node_and_change_nothing_else() -> None:
    async with desks() as [desk]:
        session = await desk.open()
        before = desk.site.view.nodes[N1]

        await desk.sessions.images(session.id, ("b:1", "x" * 2_000, "a:1"))
        after = desk.site.view.nodes[N1]
        assert after.description.images == ("b:1", "a:1")
        assert (
            msgspec.structs.replace(after, version=before.version, description=before.description)
            == before
        )
        assert desk.sessions.find(session.id) is session

        commits = len(desk.site.store.commits)
        await desk.sessions.images(session.id, ("b:1", "a:1"))
        assert len(desk.site.store.commits) == commits, "nothing new was written"
        await desk.sessions.images(session.id, tuple(f"i:{n}" for n in range(TOLD_MAX + 1)))
        assert len(desk.site.view.nodes[N1].description.images) == TOLD_MAX


@in_virtual_time
async def test_images_are_written_over_what_an_operator_did_meanwhile_without_undoing_it() -> None:
    async with desks() as [desk]:
        session = await desk.open()
        await desk.site.lag()
        drained = NodeSpec(availability=Availability.DRAIN)
        await desk.site.write(msgspec.structs.replace(desk.site.view.nodes[N1], spec=drained))

        await desk.sessions.images(session.id, ("a:1",))

        stored = desk.site.view.nodes[N1]
        assert (stored.spec, stored.description.images) == (drained, ("a:1",))


@in_virtual_time
async def test_images_of_a_session_that_has_ended_are_refused() -> None:
    async with desks() as [desk]:
        with pytest.raises(NotFoundError, match="the session has ended"):
            await desk.sessions.images("gone", ("a:1",))


def test_a_manager_takes_so_many_heartbeats_and_no_more() -> None:
    spec = ClusterSpec(heartbeat_period_seconds=1.0)
    assert period_seconds(spec, 1) == 1.0
    assert period_seconds(spec, 300) == 1.0
    for sessions in (301, 3_000, 10_000):
        rate = sessions / period_seconds(spec, sessions)
        assert rate == pytest.approx(HEARTBEATS_PER_SECOND_MAX)


# --- what leases rest on ----------------------------------------------------------------------


@in_virtual_time
async def test_a_manager_vouches_for_sessions_that_stand_under_the_lease_it_surely_has() -> None:
    async with desks() as [desk]:
        session = await desk.open()
        assert desk.sessions.vouches_for(session.id)
        assert not desk.sessions.vouches_for("another")
        lease, desk.lease = desk.lease, None
        assert not desk.sessions.vouches_for(session.id), "nobody knows what stands there"
        desk.lease = lease
        assert desk.sessions.vouches_for(session.id)
        desk.lease = await desk.site.store.grant_lease(3)
        assert not desk.sessions.vouches_for(session.id), "its key went with the old lease"
        desk.sessions.lease_replaced()
        await until(lambda: desk.sessions.vouches_for(session.id))
        desk.sessions.ended(session)
        assert not desk.sessions.vouches_for(session.id)


@in_virtual_time
async def test_no_session_comes_to_stand_for_a_node_that_is_down_without_a_trace_in_its_record() -> (
    None
):
    async with desks() as [desk]:
        session = await desk.open()
        quiet = desk.site.view.nodes[N1].version
        await desk.open()
        assert desk.site.view.nodes[N1].version == quiet, "no write where nothing rests on it"

        down = NodeStatus(state=NodeState.DOWN)
        await desk.site.write(msgspec.structs.replace(desk.site.view.nodes[N1], status=down))
        before = desk.site.view.nodes[N1].version
        session = await desk.open()
        opened = desk.site.view.nodes[N1].version
        assert opened > before

        # The same when a key is written again because the manager has got another lease.
        stored = desk.key()
        assert stored is not None
        await desk.site.erase(stored)
        desk.lease = await desk.site.store.grant_lease(3)
        desk.sessions.lease_replaced()
        await until(lambda: desk.sessions.vouches_for(session.id))
        assert desk.site.view.nodes[N1].version > opened

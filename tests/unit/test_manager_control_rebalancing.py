"""Rebalancing as clients ask for it: what is told, what is written, what is refused."""

import msgspec
import pytest

from cluster.errors import InvalidError, StateError
from cluster.model import (
    Cluster,
    ClusterSpec,
    ManagerId,
    MoveState,
    Rebalancing,
    Session,
    SessionId,
    TaskState,
)
from manager import records
from manager.control import rebalancing
from manager.control.cluster import REST_SECONDS_MIN, Clusters
from manager.control.picture import Picture
from manager.rebalancing import MOVES_MAX, MOVES_USUALLY
from manager.store import keys
from tests.fakes.sites import Site, node, node_id, service, sites, task
from tests.fakes.virtual_time import LoopClock, in_virtual_time

replace = msgspec.structs.replace


def asking(site: Site) -> rebalancing.Rebalancing:
    return rebalancing.Rebalancing(site.access, Picture(site.view), LoopClock())


async def uneven(site: Site, replicas: int = 6) -> None:
    """Have a service run on two nodes of three."""
    await site.write(*map(node, ("n1", "n2", "n3")))
    for name in ("n1", "n2", "n3"):
        session = Session(
            id=SessionId(f"s-{name}"), node_id=node_id(name), manager_id=ManagerId("m")
        )
        await site.write(session)
    await site.write(*service(replicas=replicas))
    for slot in range(1, replicas + 1):
        on = "n1" if slot % 2 else "n2"
        await site.write(task(f"t{slot}", on=on, slot=slot, state=TaskState.RUNNING))


def stored(site: Site) -> Cluster:
    item = site.state.get(keys.CLUSTER)
    assert item is not None
    cluster = records.decode(item)
    assert isinstance(cluster, Cluster)
    return cluster


@in_virtual_time
async def test_a_plan_tells_and_changes_nothing() -> None:
    async with sites() as (site,):
        await uneven(site)
        before = site.stored()
        answer = await asking(site).ask(0, plan=True)
        assert [(each.name, each.source, each.target) for each in answer.moves] == [
            ("web.1", "n1", "n3"),
            ("web.2", "n2", "n3"),
        ]
        assert {each.move.why for each in answer.moves} == {"beyond"}
        assert answer.revision == site.view.revision
        assert answer.cluster is None
        assert site.stored() == before


@in_virtual_time
async def test_what_is_asked_for_stands_in_the_clusters_record() -> None:
    async with sites() as (site,):
        await uneven(site)
        answer = await asking(site).ask(1, plan=False)
        cluster = stored(site)
        assert answer.cluster == cluster
        (move,) = cluster.moves
        assert (move.task_id, move.node_id, move.why) == ("t1", node_id("n3"), "beyond")
        assert (move.state, move.changed_at) == (MoveState.ASKED, LoopClock().now())
        assert not site.view.tasks[move.task_id].moving, "that is the leader's to write"


@in_virtual_time
async def test_nothing_is_written_where_nothing_pays() -> None:
    async with sites() as (site,):
        await uneven(site, replicas=2)
        before = site.stored()
        answer = await asking(site).ask(MOVES_MAX, plan=False)
        assert (answer.moves, answer.cluster) == ((), None)
        assert site.stored() == before


@in_virtual_time
async def test_no_more_can_be_asked_for_while_moves_are_to_be_made() -> None:
    async with sites() as (site,):
        await uneven(site)
        await asking(site).ask(1, plan=False)
        with pytest.raises(StateError, match="1 of the moves that were asked for before"):
            await asking(site).ask(1, plan=False)
        assert len((await asking(site).ask(0, plan=True)).moves) == 2

        cluster = stored(site)
        given_up = replace(cluster.moves[0], state=MoveState.GIVEN_UP, message="no room")
        await site.write(replace(cluster, moves=(given_up,)))
        again = await asking(site).ask(1, plan=False)
        assert again.cluster is not None
        assert [move.state for move in again.cluster.moves] == [MoveState.ASKED]


@in_virtual_time
async def test_a_manager_that_lags_behind_does_not_ask_twice() -> None:
    async with sites(2) as (one, other):
        await uneven(one)
        await other.caught_up()
        await other.lag()
        await asking(one).ask(1, plan=False)
        with pytest.raises(StateError):
            await asking(other).ask(1, plan=False)
        assert len(stored(one).moves) == 1


@pytest.mark.parametrize("number", [-1, MOVES_MAX + 1])
@in_virtual_time
async def test_a_number_out_of_range_is_refused(number: int) -> None:
    async with sites() as (site,):
        with pytest.raises(InvalidError, match=f"1 to {MOVES_MAX}, or 0 for {MOVES_USUALLY}, is"):
            await asking(site).ask(number, plan=True)


# --- the settings of what happens without asking ---------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"moves": 0}, "rebalancing.moves: must be 1 to 100, is 0"),
        ({"moves": 101}, "rebalancing.moves: must be 1 to 100, is 101"),
        ({"hours": "22-6"}, "rebalancing.hours: must be a span such as 22:00-06:00"),
        ({"hours": "24:00-06:00"}, "rebalancing.hours: must be a span"),
        ({"hours": "06:00-06:00"}, "rebalancing.hours: 06:00-06:00 is no time at all"),
        (
            {"time_zone": "Europe/Vienn"},
            "no time zone 'Europe/Vienn'; did you mean 'Europe/Vienna'",
        ),
        ({"rest_seconds": REST_SECONDS_MIN - 1}, "rebalancing.rest_seconds: must be 1m to"),
        ({"rest_seconds": float("nan")}, "rebalancing.rest_seconds: must be 1m to"),
    ],
)
@in_virtual_time
async def test_settings_that_make_no_sense_are_refused(
    changes: dict[str, object], told: str
) -> None:
    async with sites() as (site,):
        clusters = Clusters(site.access, ManagerId("m"), _no_members)
        spec = ClusterSpec(rebalancing=replace(Rebalancing(automatic=True), **changes))
        with pytest.raises(InvalidError) as error:
            await clusters.update(0, spec)
        assert told in str(error.value)


async def _no_members() -> tuple[()]:
    return ()

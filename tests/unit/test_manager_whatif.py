"""What would be, if things were otherwise; and that nothing becomes otherwise by asking."""

import asyncio
import threading
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from cluster.errors import ExistsError, InvalidError, NotFoundError
from cluster.model import (
    Affinity,
    Autoscale,
    Availability,
    ContainerSpec,
    DisruptionBudget,
    Mount,
    MountKind,
    NodeSpec,
    NodeState,
    Object,
    Placement,
    RestartCondition,
    RestartPolicy,
    Scaling,
    ServiceMode,
    ServiceSpec,
    Strategy,
    TaskSpec,
    TaskState,
)
from cluster.resources import Resources
from manager.control import outlook
from manager.control.outlook import Fate, Outlook, Room
from manager.control.whatif import Asked, WhatIf
from tests.fakes.sites import Site, node, service, sites, task, until

RUNNING = TaskState.RUNNING


def template(cpus: float = 1, **more: Any) -> TaskSpec:
    amounts = Resources(cpu_nanos=round(cpus * 10**9))
    return TaskSpec(container=ContainerSpec(image="web"), reservations=amounts, **more)


def labelled(name: str, *, cpus: int = 4, **labels: str) -> Object:
    return msgspec.structs.replace(node(name, cpus=cpus), spec=NodeSpec(labels=labels))


async def asked(site: Site, **what: Any) -> Outlook:
    before = len(site.store.commits)
    answer = await WhatIf(site.access).ask(Asked(**{"scale": {}, **what}))
    assert len(site.store.commits) == before, "asking changes nothing"
    return answer


def fates(answer: Outlook) -> Mapping[str, tuple[str, str]]:
    return {fate.name: (fate.left, fate.found) for fate in answer.fates}


async def test_the_tasks_of_a_lost_node_move_and_what_has_no_room_is_told() -> None:
    async with sites() as [site]:
        await site.write(
            *service("web", task=template(1.5), replicas=4),
            *(node("n1"), node("n2"), node("n3", cpus=2)),
            task("t1", on="n1", state=RUNNING),
            task("t2", on="n1", state=RUNNING, slot=2),
            task("t3", on="n2", state=RUNNING, slot=3),
            task("t4", on="n2", state=RUNNING, slot=4),
        )
        answer = await asked(site, lose_nodes=["n1"])
        assert fates(answer) == {"web.1": ("n1", "n3"), "web.2": ("n1", "")}
        assert "short of" in answer.fates[1].reason
        assert (answer.staying, answer.ending) == (2, 0)
        assert answer.capacity.cpu_nanos == 6 * 10**9
        assert answer.reserved.cpu_nanos == 4.5 * 10**9

        by_label = await asked(site, lose_where=["node.hostname in (n1, n2)"])
        assert by_label.capacity.cpu_nanos == 2 * 10**9
        assert len([fate for fate in by_label.fates if not fate.found]) == 3


async def test_a_drain_moves_and_a_scale_adds_or_ends_as_the_real_one_would() -> None:
    async with sites() as [site]:
        await site.write(
            *service("web", task=template(1), replicas=3),
            *(node("n1"), node("n2")),
            task("t1", on="n1", state=RUNNING),
            task("t2", on="n1", state=RUNNING, slot=2),
            task("t3", on="n2", state=RUNNING, slot=3),
        )
        drained = await asked(site, drain_nodes=["n1"])
        assert fates(drained) == {"web.1": ("n1", "n2"), "web.2": ("n1", "n2")}
        grown = await asked(site, scale={"web": 5})
        assert {fate.name for fate in grown.fates} == {"web.4", "web.5"}
        assert all(fate.left == "" and fate.found for fate in grown.fates)
        less = await asked(site, scale={"web": 1})
        assert (less.fates, less.staying, less.ending) == ((), 1, 2)
        assert less.reserved.cpu_nanos == 10**9
        both = await asked(site, drain_nodes=["n2"], scale={"web": 1})
        assert (both.staying, both.ending) == (1, 2)


async def test_a_service_that_scales_itself_has_as_many_replicas_as_it_shall() -> None:
    async with sites() as [site]:
        scale = Autoscale(min_replicas=1, max_replicas=9, cpu_percent=50)
        web, version = service("web", task=template(1), replicas=5, autoscale=scale)
        await site.write(
            *(web, version, Scaling(service_id=web.id, replicas=1)),
            *(node("n1"), node("n2")),
            task("t1", on="n1", state=RUNNING),
        )
        answer = await asked(site, drain_nodes=["n1"])
        assert fates(answer) == {"web.1": ("n1", "n2")}


async def test_a_stack_is_placed_as_if_it_were_deployed() -> None:
    async with sites() as [site]:
        old = template(1)
        await site.write(
            *service("shop_web", stack="shop", task=old, replicas=2),
            *service("shop_gone", stack="shop", task=old),
            *(node("n1"), node("n2")),
            task("t1", of="shop_web", on="n1", state=RUNNING),
            task("t2", of="shop_web", on="n2", state=RUNNING, slot=2),
            task("g1", of="shop_gone", on="n2", state=RUNNING),
        )
        same = ServiceSpec(name="shop_web", stack="shop", task=old, replicas=3)
        new = ServiceSpec(name="shop_db", stack="shop", task=template(4))
        answer = await asked(site, stack="shop", services=[same, new])
        assert fates(answer)["shop_web.3"][0] == ""
        assert fates(answer)["shop_db.1"] == ("", "")
        assert (answer.staying, answer.ending) == (3, 0)

        changed = msgspec.structs.replace(same, task=template(2), replicas=2)
        answer = await asked(site, stack="shop", services=[changed])
        assert {name: left for name, (left, _) in fates(answer).items()} == {
            "shop_web.1": "n1",
            "shop_web.2": "n2",
        }
        assert answer.staying == 1
        assert answer.reserved.cpu_nanos == 5 * 10**9, "by the new template"
        placement = msgspec.structs.replace(old, placement=Placement(stays=True))
        untouched = msgspec.structs.replace(same, task=placement, replicas=2)
        assert (await asked(site, stack="shop", services=[untouched])).staying == 3


async def test_a_task_that_waits_already_is_told_of_whether_or_not_it_would_find_a_place() -> None:
    async with sites() as [site]:
        await site.write(
            *service("web", task=template(3), replicas=2),
            *service("small", task=template(3)),
            node("n1"),
            task("t1", on="n1", state=RUNNING),
            task("t2", slot=2, state=TaskState.PENDING),
        )
        assert fates(await asked(site))["web.2"] == ("", "")
        answer = await asked(site, scale={"web": 0})
        assert fates(answer) == {"small.1": ("", "n1")}
        assert answer.ending == 2


async def test_a_global_service_follows_the_nodes_and_moves_nowhere() -> None:
    async with sites() as [site]:
        paused = msgspec.structs.replace(node("n3"), spec=NodeSpec(availability=Availability.PAUSE))
        await site.write(
            *service("agent", mode=ServiceMode.GLOBAL, task=template(1)),
            *(node("n1"), node("n2"), node("n5"), paused, node("n4", state=NodeState.DOWN)),
            task("a1", of="agent", on="n1", slot=0, state=RUNNING),
            task("a3", of="agent", on="n3", slot=0, state=RUNNING),
            task("a4", of="agent", on="n4", slot=0, state=RUNNING),
        )
        answer = await asked(site)
        new = {"agent.n2": ("", "n2"), "agent.n5": ("", "n5")}
        assert fates(answer) == new
        assert answer.staying == 2
        lost = await asked(site, lose_nodes=["n1"])
        assert fates(lost) == new
        assert (lost.staying, lost.ending) == (1, 2)


async def test_who_makes_way_looks_for_another_place() -> None:
    async with sites() as [site]:
        await site.write(
            *service(
                "low", task=template(3), budget=DisruptionBudget(max_unavailable=2), replicas=2
            ),
            *(node("n1"), node("n2")),
            task("l1", of="low", on="n1", state=RUNNING),
            task("l2", of="low", on="n2", state=RUNNING, slot=2),
        )
        high = ServiceSpec(
            name="s_high", stack="s", task=template(4), priority=5, preempts=True, replicas=1
        )
        answer = await asked(site, stack="s", services=[high])
        told = fates(answer)
        assert told["s_high.1"][1] in ("n1", "n2")
        (victim,) = set(told) - {"s_high.1"}
        assert told[victim] == (told["s_high.1"][1], "")
        assert answer.staying == 1


async def test_a_bound_volume_keeps_its_tasks_where_it_lives() -> None:
    async with sites() as [site]:
        mount = Mount(kind=MountKind.VOLUME, source="data", target="/data", bound=True)
        container = ContainerSpec(image="db", mounts=(mount,))
        home = msgspec.structs.replace(node("n1"), spec=NodeSpec(volumes=("data",)))
        await site.write(
            *service("db", task=TaskSpec(container=container)),
            *(home, node("n2")),
            task("d1", of="db", on="n1", state=RUNNING),
        )
        assert fates(await asked(site, drain_nodes=["n1"])) == {"db.1": ("n1", "")}
        assert fates(await asked(site, drain_nodes=["n2"])) == {}


async def test_headroom_counts_what_fits_beside_what_was_imagined() -> None:
    async with sites() as [site]:
        apart = Placement(affinities=(Affinity(service="single", anti=True),))
        await site.write(
            *service("web", task=template(1)),
            *service("single", task=template(0.1, placement=apart)),
            *service("light", task=template(0)),
            *(node("n1"), node("n2")),
            task("t1", on="n1", state=RUNNING),
            task("s1", of="single", on="n1", state=RUNNING),
            task("l1", of="light", on="n2", state=RUNNING),
        )
        answer = await asked(site, headroom=["web", "single", "light"])
        assert answer.rooms == (
            Room("web", 6, more=False),
            Room("single", 1, more=False),
            Room("light", outlook.HEADROOM_MAX, more=True),
        )
        less = await asked(site, drain_nodes=["n2"], headroom=["web"])
        assert less.rooms == (Room("web", 2, more=False),)
        new = ServiceSpec(name="s_new", stack="s", task=template(2))
        imagined = await asked(site, stack="s", services=[new], headroom=["s_new"])
        assert imagined.rooms == (Room("s_new", 2, more=False),)


async def test_a_node_that_cannot_be_spared_is_named_with_what_would_be_lost() -> None:
    async with sites() as [site]:
        await site.write(
            *service("web", task=template(2), replicas=3),
            *service("agent", mode=ServiceMode.GLOBAL, task=template(0)),
            *(node("n1", cpus=6), node("n2", cpus=2), node("n3", cpus=1)),
            task("t1", on="n1", state=RUNNING),
            task("t2", on="n1", state=RUNNING, slot=2),
            task("t3", on="n2", state=RUNNING, slot=3),
            *(task(f"a{n}", of="agent", on=f"n{n}", slot=0, state=RUNNING) for n in (1, 2, 3)),
        )
        answer = await asked(site, spare=True)
        assert answer.indispensable == [("n1", 2)]
        assert answer.untried == 0
        assert (await asked(site)).indispensable == ()
        enough = await asked(site, scale={"web": 1}, spare=True)
        assert enough.indispensable == []


async def test_of_very_many_nodes_those_with_the_most_tasks_are_tried(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(outlook, "SPARED_MAX", 1)
    async with sites() as [site]:
        await site.write(
            *service("web", task=template(2), replicas=3),
            *(node("n1", cpus=2), node("n2", cpus=4)),
            task("t1", on="n1", state=RUNNING),
            task("t2", on="n2", state=RUNNING, slot=2),
            task("t3", on="n2", state=RUNNING, slot=3),
        )
        answer = await asked(site, spare=True)
        assert (answer.indispensable, answer.untried) == ([("n2", 2)], 1)


async def test_fates_are_in_the_order_that_people_count_in() -> None:
    async with sites() as [site]:
        await site.write(*service("web", task=template(0), replicas=11), node("n1"))
        names = [fate.name for fate in (await asked(site)).fates]
        assert names == [f"web.{number}" for number in range(1, 12)]


async def test_the_oldest_that_waits_is_placed_first_and_what_is_new_last() -> None:
    async with sites() as [site]:
        await site.write(
            *service("web", task=template(4), replicas=3),
            *(node("n1"), node("n2")),
            task("z", state=TaskState.PENDING, created_at=1.0),
            task("a", slot=2, state=TaskState.PENDING, created_at=2.0),
        )
        answer = await asked(site)
        assert [fate.name for fate in answer.fates if fate.found] == ["web.1", "web.2"]
        one = await asked(site, lose_nodes=["n2"])
        assert [fate.name for fate in one.fates if fate.found] == ["web.1"]


async def test_a_task_that_has_done_its_work_is_not_run_again() -> None:
    async with sites() as [site]:
        await site.write(
            *service(
                "web", task=template(1, restart=RestartPolicy(condition=RestartCondition.NONE))
            ),
            node("n1"),
            task("t", on="n1", state=TaskState.COMPLETE),
        )
        assert (await asked(site)).fates == ()


async def test_a_bound_volume_that_lived_nowhere_lives_where_its_first_task_goes() -> None:
    async with sites() as [site]:
        mount = Mount(kind=MountKind.VOLUME, source="data", target="/data", bound=True)
        amounts = Resources(cpu_nanos=10**9)
        task_spec = TaskSpec(
            container=ContainerSpec(image="db", mounts=(mount,)),
            reservations=amounts,
            placement=Placement(strategy=Strategy.SPREAD),
        )
        await site.write(node("n1"), node("n2"))
        new = ServiceSpec(name="s_db", stack="s", task=task_spec)
        answer = await asked(site, stack="s", services=[new], headroom=["s_db"])
        assert answer.rooms == (Room("s_db", 3, more=False),), "on that node alone"


async def test_headroom_of_a_gang_is_counted_task_by_task() -> None:
    async with sites() as [site]:
        await site.write(*service("web", task=template(1), gang="all", replicas=0), node("n1"))
        assert (await asked(site, headroom=["web"])).rooms == (Room("web", 4, more=False),)


async def test_a_lost_node_takes_nothing_and_a_global_task_needs_no_other_place() -> None:
    async with sites() as [site]:
        await site.write(
            *service("light", task=template(0)),
            *service("agent", mode=ServiceMode.GLOBAL, task=template(0)),
            node("n1"),
            task("l", of="light", on="n1", state=RUNNING),
            task("a", of="agent", on="n1", slot=0, state=RUNNING),
        )
        assert (await asked(site, spare=True)).indispensable == [("n1", 1)]


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ({"lose_nodes": ["n1"], "drain_nodes": ["n1"]}, "'n1' cannot be both lost and drained"),
        ({"lose_where": ["node.labels.zone == x"]}, "no node meets"),
        ({"lose_where": ["node.zone == x"]}, "unknown key"),
        ({"scale": {"agent": 2}}, "'agent' is global"),
        ({"scale": {"shop_web": -1}}, "must be 0 to"),
        ({"headroom": ["agent"]}, "no room for more"),
        ({"stack": "shop", "services": [ServiceSpec(name="web", task=template())]}, "its stack"),
        (
            {
                "stack": "shop",
                "services": [ServiceSpec(name="shop_web", stack="shop", task=template())],
                "scale": {"shop_web": 2},
            },
            "both scaled and deployed",
        ),
    ],
)
async def test_what_could_not_be_done_is_not_imagined_either(
    what: dict[str, Any], said: str
) -> None:
    async with sites() as [site]:
        await site.write(
            *service("agent", mode=ServiceMode.GLOBAL),
            *service("shop_web", stack="shop"),
            node("n1"),
        )
        with pytest.raises(InvalidError, match=said):
            await asked(site, **what)


async def test_names_of_others_are_refused_and_unknown_ones_told() -> None:
    async with sites() as [site]:
        await site.write(*service("s_web", stack="other"), node("n1"))
        taken = ServiceSpec(name="s_web", stack="s", task=template())
        with pytest.raises(ExistsError, match="stack 'other'"):
            await asked(site, stack="s", services=[taken])
        with pytest.raises(NotFoundError, match="did you mean 's_web'"):
            await asked(site, headroom=["s_wbe"])


async def test_one_is_answered_after_the_other_though_a_client_has_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun: list[int] = []
    may_end = threading.Event()

    def foreseen(*arguments: Any, **options: Any) -> Outlook:
        begun.append(1)
        assert may_end.wait(20)
        return real(*arguments, **options)

    real = outlook.foreseen
    monkeypatch.setattr(outlook, "foreseen", foreseen)
    async with sites() as [site]:
        await site.write(*service("web", task=template(1), replicas=2), node("n1"))
        what_if = WhatIf(site.access)
        first = asyncio.create_task(what_if.ask(Asked(scale={})))
        second = asyncio.create_task(what_if.ask(Asked(scale={"web": 1})))
        await until(lambda: begun)
        first.cancel()
        await asyncio.wait({first})
        await until(lambda: len(what_if._work) == 2)
        assert len(begun) == 1, "the one whose client has left still keeps the other waiting"
        may_end.set()
        assert (await second).fates == (Fate("web.1", "", "n1"),)
        assert len(begun) == 2
        await until(lambda: not what_if._work)

"""References, nodes, tasks, the cluster's record, and usage from other managers."""

import asyncio
from collections.abc import AsyncGenerator, Sequence

import msgspec
import pytest

from cluster.errors import (
    ConflictError,
    InvalidError,
    NotFoundError,
    StateError,
    UnavailableError,
)
from cluster.model import (
    Availability,
    ClusterSpec,
    ContainerSpec,
    Manager,
    ManagerId,
    NodeSpec,
    NodeState,
    NodeUsage,
    ServiceMode,
    Session,
    SessionId,
    Strategy,
    Task,
    TaskId,
    TaskSpec,
    TaskState,
)
from cluster.resources import Resources
from manager.control.cluster import Clusters, StoreMember, establish
from manager.control.nodes import NodeChange, Nodes
from manager.control.picture import CHANGES_UNASKED_MAX, Picture
from manager.control.references import find_node, find_service, find_task
from manager.control.tasks import Tasks
from manager.control.usage import Usages
from manager.dispatch.log_broker import LogBatch
from manager.dispatch.open_session import HeardUsage, LogsAsked
from manager.store.memory import MemoryStore
from manager.view import Batch, Change
from scheduler import Explanation
from tests.fakes.sites import Site, node, node_id, service, sites, task
from tests.fakes.virtual_time import LoopClock, in_virtual_time


class FakePeers:
    """Other managers that answer from a table, or not at all."""

    def __init__(self, usages: dict[str, list[HeardUsage]]) -> None:
        self.usages = usages

    async def usage(self, manager: Manager) -> Sequence[HeardUsage]:
        if manager.id not in self.usages:
            raise UnavailableError("no answer")
        return self.usages[manager.id]

    async def logs(
        self, manager: Manager, task_ids: Sequence[TaskId], asked: LogsAsked
    ) -> AsyncGenerator[LogBatch, None]:
        raise UnavailableError("no answer")
        yield LogBatch()  # type: ignore[unreachable]  # it makes this a generator


def usages_of(site: Site, peers: FakePeers | None = None) -> Usages:
    return Usages(site.view, ManagerId("m0"), list, peers or FakePeers({}))


def nodes_of(site: Site, peers: FakePeers | None = None) -> Nodes:
    return Nodes(site.access, usages_of(site, peers), LoopClock())


def tasks_of(site: Site) -> Tasks:
    return Tasks(site.access, Picture(site.view), LoopClock())


def session(name: str, manager: str = "m1") -> Session:
    return Session(id=SessionId(f"s-{name}"), node_id=node_id(name), manager_id=ManagerId(manager))


# --- references -------------------------------------------------------------------------------


@in_virtual_time
async def test_an_id_a_name_or_the_beginning_of_an_id_will_do() -> None:
    async with sites() as [site]:
        await site.write(*service("web"), *service("worker"), node("n1"))
        web = site.view.service_by_name("web")
        assert find_service(site.view, "web") == web
        assert find_service(site.view, "id-of-web") == web
        assert find_service(site.view, "id-of-we") == web
        assert find_node(site.view, "n1").id == node_id("n1")
        assert find_node(site.view, "n1000").id == node_id("n1")


@in_virtual_time
async def test_a_short_name_that_is_gone_does_not_hit_an_id_that_begins_so() -> None:
    async with sites() as [site]:
        await site.write(*service("web"))
        assert find_service(site.view, "id-o").spec.name == "web"
        with pytest.raises(NotFoundError, match="no service 'id-'"):
            find_service(site.view, "id-")


@in_virtual_time
async def test_what_could_be_several_is_refused_with_all_of_them() -> None:
    async with sites() as [site]:
        twin = msgspec.structs.replace(node("n2"), description=node("n1").description)
        await site.write(*service("web"), *service("worker"), node("n1"), twin)
        with pytest.raises(InvalidError, match=r"'id-of-w' could be 2 services: .*web.*worker"):
            find_service(site.view, "id-of-w")
        with pytest.raises(InvalidError, match=r"'n1' could be 2 nodes"):
            find_node(site.view, "n1")
        with pytest.raises(InvalidError, match="which service"):
            find_service(site.view, "")


@in_virtual_time
async def test_a_task_is_found_by_its_place() -> None:
    async with sites() as [site]:
        await site.write(
            *service("web"),
            node("n1"),
            task("old", slot=2, state=TaskState.FAILED, desired=TaskState.SHUTDOWN, created_at=9),
            task("now", slot=2, created_at=5),
            task("there", slot=0, on="n1"),
        )
        assert find_task(site.view, "web.2").id == "now"
        assert find_task(site.view, "web.n1").id == "there"
        with pytest.raises(NotFoundError, match="'web' has none in that place"):
            find_task(site.view, "web.9")
        with pytest.raises(NotFoundError, match="no service 'wbe'"):
            find_task(site.view, "wbe.1")


# --- nodes ------------------------------------------------------------------------------------


@in_virtual_time
async def test_a_node_is_drained_and_labelled_whatever_the_leader_wrote_meanwhile() -> None:
    async with sites() as [site]:
        await site.write(node("n1", state=NodeState.UNKNOWN))
        await site.lag()
        await site.write(node("n1", state=NodeState.READY))

        changed = await nodes_of(site).update(
            "n1",
            NodeChange(
                availability=Availability.DRAIN,
                set_labels={"disk": "ssd"},
                remove_labels=["nothing"],
            ),
        )
        assert changed.spec.availability is Availability.DRAIN
        assert changed.spec.labels == {"disk": "ssd"}
        assert changed.status.state is NodeState.READY, "the leader's write was undone"


@in_virtual_time
async def test_a_node_update_on_an_old_version_is_refused_with_how_it_is_now() -> None:
    async with sites() as [site]:
        await site.write(node("n1"))
        old = site.view.nodes[node_id("n1")]
        nodes = nodes_of(site)
        change = NodeChange(
            set_labels={"zone": "a"}, task_slots=3, reserve_for=["gpu"], add_volumes=["data"]
        )
        await nodes.update("n1", change)
        shown = r"active; zone=a; 3 task slots; reserved for gpu; volumes data"
        with pytest.raises(ConflictError, match=shown):
            await nodes.update("n1", NodeChange(remove_labels=["zone"]), version=old.version)


@in_virtual_time
async def test_a_node_update_that_changes_nothing_writes_nothing() -> None:
    async with sites() as [site]:
        await site.write(node("n1"))
        change = NodeChange(
            remove_labels=["nothing"], unreserve_for=["x"], remove_volumes=["y"], task_slots=0
        )
        await nodes_of(site).update("n1", change)
        assert not site.store.commits


@in_virtual_time
async def test_what_is_reserved_of_a_node_adds_up_in_every_dimension() -> None:
    async with sites() as [site]:
        amounts = Resources(cpu_nanos=3, memory_bytes=5, generic={"gpu": 2, "disk": 1})
        template = TaskSpec(container=ContainerSpec(image="web"), reservations=amounts)
        others = TaskSpec(
            container=ContainerSpec(image="db"), reservations=Resources(generic={"gpu": 1})
        )
        await site.write(
            node("n1"),
            *service("web", task=template),
            *service("db", task=others),
            task("t1", on="n1", state=TaskState.RUNNING),
            task("t2", on="n1", state=TaskState.ASSIGNED, slot=2),
            task("t3", on="n1", of="db", state=TaskState.RUNNING),
            task("ended", on="n1", state=TaskState.FAILED, slot=3),
        )
        summary = await nodes_of(site).get("n1")
        assert summary.reserved == Resources(
            cpu_nanos=6, memory_bytes=10, generic={"gpu": 5, "disk": 2}
        )


@pytest.mark.parametrize("label", ["", "two words", "a=b", "x" * 300])
@in_virtual_time
async def test_a_label_that_no_constraint_could_name_is_refused(label: str) -> None:
    async with sites() as [site]:
        await site.write(node("n1"))
        with pytest.raises(InvalidError):
            await nodes_of(site).update("n1", NodeChange(set_labels={label: "x"}))


def test_what_is_asked_of_a_node_changes_by_what_is_named() -> None:
    spec = NodeSpec(reserved_for=("a", "b"), volumes=("v",), task_slots=4)

    change = NodeChange(
        reserve_for=["c", "a"], unreserve_for=["b"], add_volumes=["u"], remove_volumes=["v"]
    )

    assert change.applied(spec) == NodeSpec(reserved_for=("a", "c"), volumes=("u",), task_slots=4)
    assert NodeChange(task_slots=0).applied(spec).task_slots == 0
    assert NodeChange().applied(spec) == spec
    full = msgspec.structs.replace(
        spec, volumes=tuple(sorted(f"v{number}" for number in range(300)))
    )
    assert NodeChange(reserve_for=["a"]).applied(full) == full


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (NodeChange(set_labels={"a": "1"}, remove_labels=["a"]), "label 'a' is both set and"),
        (NodeChange(reserve_for=["a"], unreserve_for=["a"]), "reservation for 'a' is both"),
        (NodeChange(add_volumes=["a"], remove_volumes=["a"]), "volume 'a' is both"),
        (NodeChange(task_slots=-1), "task_slots: must be 0 or more, is -1"),
        (NodeChange(reserve_for=["a b"]), "reserved_for: must consist of letters"),
        (NodeChange(reserve_for=[f"n{i}" for i in range(17)]), "reserved_for: must be at most 16"),
        (NodeChange(add_volumes=["a/b"]), "volumes: must be the name of a volume"),
        (NodeChange(add_volumes=["a" * 256]), "at most 255 characters"),
        (NodeChange(add_volumes=[f"v{i}" for i in range(257)]), "volumes: must be at most 256"),
    ],
)
def test_what_no_node_can_be_asked_is_refused(change: NodeChange, said: str) -> None:
    with pytest.raises(InvalidError, match=said):
        change.applied(NodeSpec())


@in_virtual_time
async def test_a_node_that_can_be_reached_is_removed_only_by_force() -> None:
    async with sites() as [site]:
        await site.write(node("n1"), session("n1"), node("n2", state=NodeState.DOWN))
        nodes = nodes_of(site)
        with pytest.raises(StateError, match="--force"):
            await nodes.remove("n1", force=False)
        await nodes.remove("n2", force=False)
        await nodes.remove("n1", force=True)
        assert not site.view.nodes
        assert not site.stored("/shoal/v1/sessions/")


@in_virtual_time
async def test_nodes_are_listed_with_what_is_promised_and_used() -> None:
    async with sites() as [site]:
        heard = HeardUsage(NodeUsage(node_id=node_id("n1"), cpu_nanos=7, measured_at=1.0), 0.5)
        peers = FakePeers({"m1": [heard]})
        await site.write(
            *service("web"),
            node("n2"),
            node("n1"),
            session("n1"),
            task("a", on="n1", state=TaskState.RUNNING),
            task("b", on="n1", state=TaskState.ASSIGNED),
            task("c", on="n1", state=TaskState.FAILED),
            Manager(id=ManagerId("m1"), address="x:1"),
            Manager(id=ManagerId("hangs"), address="y:1"),
        )
        one, two = await nodes_of(site, peers).all()
        assert (one.node.id, one.manager_id, one.heard) == (node_id("n1"), "m1", heard)
        assert (one.tasks_running, one.tasks_total) == (1, 2)
        assert (two.node.id, two.manager_id, two.heard) == (node_id("n2"), None, None)


# --- tasks ------------------------------------------------------------------------------------


@in_virtual_time
async def test_tasks_are_listed_by_service_and_slot_the_newest_first() -> None:
    async with sites() as [site]:
        await site.write(
            *service("web"),
            *service("db", stack="shop"),
            node("n1"),
            task("w2", slot=2),
            task("w1-old", slot=1, desired=TaskState.SHUTDOWN, created_at=1),
            task("w1", slot=1, created_at=2, on="n1"),
            task("d1", of="db"),
        )
        tasks = tasks_of(site)

        async def ids(**wanted: object) -> list[str]:
            return [each.task.id for each in await tasks.all(**wanted)]  # type: ignore[arg-type]

        assert await ids() == ["d1", "w1", "w2"]
        assert await ids(ended=True) == ["d1", "w1", "w1-old", "w2"]
        assert await ids(service="web", node="n1") == ["w1"]
        assert await ids(stack="shop") == ["d1"]


async def told(site: Site, *tasks: Task, of: str = "t") -> tuple[str, dict[str, tuple[str, ...]]]:
    await site.write(*tasks)
    explained = await tasks_of(site).explain(of)
    return explained.text, {each.hostname: each.reasons for each in explained.verdicts}


async def test_an_explanation_says_why_a_task_waits_or_where_it_is() -> None:
    async with sites() as [site]:
        await site.write(*service("web"), node("n1"), node("n2", state=NodeState.DOWN))
        await site.write(session("n1"), node("n3"))
        waiting = task("t", state=TaskState.PENDING)
        text, verdicts = await told(site, waiting)
        assert text == "web.1 waits: no manager leads just now, so nothing is placed"
        assert verdicts["n1"] == ()
        assert verdicts["n2"] != ()
        assert verdicts["n3"] == ("without connection to a manager",)

        text, verdicts = await told(site, task("t", on="n1", state=TaskState.RUNNING))
        assert text == "web.1 is running on node 'n1'"
        assert verdicts["n1"] == (), "a task must not be in its own way"


async def test_an_explanation_follows_what_changes_and_says_what_would_help() -> None:
    async with sites() as [site]:
        big = Resources(cpu_nanos=3 * 10**9)
        template = TaskSpec(container=ContainerSpec(image="web"), reservations=big)
        await site.write(*service("web", task=template), node("n1", cpus=4), node("n2", cpus=4))
        await site.write(session("n1"), session("n2"))
        tasks = tasks_of(site)
        await site.write(task("t", state=TaskState.PENDING))
        first = await tasks.explain("t")
        assert {each.hostname for each in first.verdicts if not each.reasons} == {"n1", "n2"}
        assert first.verdicts[0].rank
        assert first.told.preference.startswith("n1 comes before n2: ")
        assert (first.told.nearest, first.told.fixes) == ("", ())

        await site.write(
            task("other", on="n1", slot=2, state=TaskState.RUNNING),
            msgspec.structs.replace(node("n2"), spec=NodeSpec(availability=Availability.PAUSE)),
        )
        second = await tasks.explain("t")
        assert second.told.nearest == "n1: short of 2 CPU"
        assert second.told.fixes == ("free 2 CPU on n1", "make n2 active")
        assert second.told.preference == ""

        await site.erase(task("other"))
        third = await tasks.explain("t")
        assert third.told.preference == "n1 is the only node that takes it"


async def test_a_task_is_explained_as_if_it_had_no_place_and_keeps_its_place_for_others() -> None:
    async with sites() as [site]:
        big = Resources(cpu_nanos=3 * 10**9)
        template = TaskSpec(container=ContainerSpec(image="web"), reservations=big)
        await site.write(
            *service("web", task=template),
            node("n1", cpus=4),
            session("n1"),
            task("t", on="n1", state=TaskState.RUNNING),
            task("u", slot=2, state=TaskState.PENDING),
        )
        tasks = tasks_of(site)
        for _ in range(2):
            placed, waiting = await tasks.explain("t"), await tasks.explain("u")
            assert placed.verdicts[0].reasons == (), "a task must not be in its own way"
            assert waiting.verdicts[0].reasons == ("short of 2 CPU",)


def on_n1(explanation: Explanation) -> str:
    """Return what keeps a task that needs all of node n1 off it."""
    return "; ".join(str(reason) for v in explanation.verdicts for reason in v.reasons)


async def test_the_schedulers_picture_is_made_once_followed_and_dropped_when_nobody_asks() -> None:
    async with sites() as [site]:
        container = ContainerSpec(image="x")
        whole = TaskSpec(container=container, reservations=Resources(cpu_nanos=4 * 10**9))
        part = TaskSpec(container=container, reservations=Resources(cpu_nanos=10**9))
        await site.write(
            *service("web", task=part),
            *service("big", task=whole),
            *(node("n1", cpus=4), session("n1"), session("n2")),
            task("t", on="n1", state=TaskState.RUNNING),
            task("b", of="big", state=TaskState.PENDING),
        )
        picture = Picture(site.view)
        listeners = len(site.view._listeners)

        async def said() -> str:
            _, explanation = await picture.explained(lambda: site.view.tasks[TaskId("b")])
            return on_n1(explanation)

        assert await said() == "short of 1 CPU"
        ledger = picture._ledger
        await site.write(task("u", on="n1", slot=2, state=TaskState.RUNNING), node("n2", cpus=1))
        assert await said() == "short of 2 CPU; short of 3 CPU"
        await site.erase(task("t"), node("n2"))
        assert await said() == "short of 1 CPU"
        assert picture._ledger is ledger

        for number in range(CHANGES_UNASKED_MAX + 1):
            assert ledger is not None
            picture._follow(ledger, Batch(number, [Change(None, node("n1"))]))
        assert len(site.view._listeners) == listeners
        assert await said() == "short of 1 CPU"
        assert picture._ledger is not ledger


async def test_a_global_task_is_explained_by_its_node_and_others_by_the_clusters_strategy() -> None:
    async with sites() as [site]:
        sized = TaskSpec(
            container=ContainerSpec(image="web"), reservations=Resources(cpu_nanos=10**9)
        )
        cluster = site.view.cluster
        assert cluster is not None
        await site.write(
            *service("agent", mode=ServiceMode.GLOBAL),
            *service("web", task=sized),
            *(node("n1"), node("n2"), session("n1"), session("n2")),
            task("a", of="agent", on="n2", slot=0, state=TaskState.RUNNING),
            task("t", on="n1", state=TaskState.RUNNING),
        )
        tasks = tasks_of(site)
        assert [each.hostname for each in (await tasks.explain("a")).verdicts] == ["n2"]
        packed = (await tasks.explain("t")).verdicts[0].rank
        spec = msgspec.structs.replace(cluster.spec, strategy=Strategy.SPREAD)
        await site.write(msgspec.structs.replace(cluster, spec=spec))
        spread = (await tasks.explain("t")).verdicts[0].rank
        assert "leftover" in dict(packed)
        assert "leftover" not in dict(spread)


async def test_what_changes_while_the_picture_is_made_is_in_it() -> None:
    async with sites() as [site]:
        old = [task(f"t{n}", on="n1", slot=n, state=TaskState.RUNNING) for n in range(1, 2_501)]
        await site.write(*service("web"), node("n1"))
        for start in range(0, len(old), 100):
            await site.write(*old[start : start + 100])
        making = asyncio.create_task(Picture(site.view)._made())
        await asyncio.sleep(0)  # it has read some
        assert not making.done(), "others have their turns meanwhile"
        await site.erase(old[-1], old[0])
        await site.write(task("new", on="n1", slot=9_999, state=TaskState.RUNNING))
        ledger = await making
        assert ledger.snapshot().nodes[node_id("n1")].task_count == len(old) - 1


# --- the cluster ------------------------------------------------------------------------------


def clusters_of(site: Site) -> Clusters:
    async def members() -> Sequence[StoreMember]:
        await asyncio.Event().wait()
        return ()

    return Clusters(site.access, ManagerId("m0"), members)


@in_virtual_time
async def test_the_cluster_is_told_in_numbers_even_while_the_store_hangs() -> None:
    async with sites() as [site]:
        await site.write(
            *service("web"),
            node("n1"),
            node("n2", state=NodeState.DOWN),
            task("t", on="n1", state=TaskState.RUNNING),
        )
        info = await clusters_of(site).info()
        assert (info.nodes_ready, info.nodes_total, info.services_total) == (1, 2, 1)
        assert (info.tasks_running, info.capacity.cpu_nanos) == (1, 4 * 10**9)
        assert info.store_members == ()
        assert info.leader_id is None


@in_virtual_time
async def test_settings_are_checked_guarded_and_replaced() -> None:
    async with sites() as [site]:
        clusters = clusters_of(site)
        for bad in (0.0, 1e9, float("nan")):
            with pytest.raises(InvalidError, match="heartbeat_period_seconds"):
                await clusters.update(0, ClusterSpec(heartbeat_period_seconds=bad))
        first = site.view.cluster
        assert first is not None
        await clusters.update(first.version, ClusterSpec(task_history_limit=2))
        assert site.view.cluster is not None
        assert site.view.cluster.spec.task_history_limit == 2
        with pytest.raises(ConflictError, match=r"task_history_limit \(9, now 2\)"):
            await clusters.update(first.version, ClusterSpec(task_history_limit=9))


@in_virtual_time
async def test_only_the_first_manager_of_an_empty_store_makes_the_cluster() -> None:
    store = MemoryStore()
    async with sites(2) as [one, other]:
        first = await establish(store, one.ids, LoopClock())
        assert await establish(store, other.ids, LoopClock()) == first
        assert len((await store.list("")).items) == 1

"""Placement by example: who goes where, and what those are told who go nowhere."""

import pytest

from cluster.constraints import NodeFacts, parse
from cluster.model import (
    Affinity,
    Availability,
    ContainerSpec,
    NodeId,
    NodeState,
    Placement,
    Platform,
    PublishedPort,
    ServiceId,
    ServiceSpec,
    TaskId,
    TaskSpec,
)
from cluster.resources import NANOS_PER_CPU, Resources
from scheduler import (
    Demand,
    Group,
    HostPort,
    NodeSnapshot,
    PendingTask,
    Plan,
    Snapshot,
    Strategy,
    group,
    place,
)

WEB = ServiceId("web")
MIB = 1 << 20


def amount(cpus: float = 0, mib: int = 0) -> Resources:
    return Resources(cpu_nanos=round(cpus * NANOS_PER_CPU), memory_bytes=mib * MIB)


def node(name: str, *, labels: dict[str, str] | None = None, **fields: object) -> NodeSnapshot:
    facts = NodeFacts(
        NodeId(name), hostname=f"host-{name}", platform=Platform(os="linux"), labels=labels or {}
    )
    return NodeSnapshot(facts, **{"capacity": amount(4, 4096), **fields})  # type: ignore[arg-type]


def spec(reservations: Resources, *ports: PublishedPort, **placement: object) -> ServiceSpec:
    return ServiceSpec(
        name="web",
        task=TaskSpec(
            container=ContainerSpec(image="i"),
            reservations=reservations,
            ports=ports,
            placement=Placement(**placement),  # type: ignore[arg-type]
        ),
    )


def replicas(count: int, demand: Demand, first: int = 1) -> Group:
    return Group(demand, tuple(TaskId(f"{demand.service_id}.{first + i}") for i in range(count)))


def per_node(plan: Plan) -> dict[str, int]:
    nodes = sorted(plan.placements.values())
    return {node_id: nodes.count(node_id) for node_id in nodes}


def why(plan: Plan) -> list[str]:
    return [str(unplaced) for unplaced in plan.unplaced]


THREE = Snapshot.of([node("a"), node("b"), node("c")])


# --- preference -------------------------------------------------------------------------------


@pytest.mark.parametrize("reserved", [amount(), amount(0.1, 64)])
def test_twelve_replicas_on_three_equal_nodes_are_four_each(reserved: Resources) -> None:
    plan = place(THREE, [replicas(12, Demand(WEB, reserved))])
    assert per_node(plan) == {"a": 4, "b": 4, "c": 4}


def test_services_with_reservations_are_packed_onto_one_node() -> None:
    singles = [replicas(1, Demand(ServiceId(f"s{i}"), amount(1, 1024))) for i in range(5)]
    assert per_node(place(THREE, singles)) == {"a": 4, "b": 1}


def test_services_without_reservations_are_spread_by_count() -> None:
    singles = [replicas(1, Demand(ServiceId(f"s{i}"))) for i in range(5)]
    assert per_node(place(THREE, singles)) == {"a": 2, "b": 2, "c": 1}


def test_replicas_without_reservations_first_go_where_their_service_is_not() -> None:
    busy = node("a", task_count=1, replicas={WEB: 1})
    crowded = node("b", task_count=7, replicas={ServiceId("other"): 7})
    plan = place(Snapshot.of([busy, crowded]), [replicas(1, Demand(WEB))])
    assert per_node(plan) == {"b": 1}


def test_no_node_gets_more_than_a_third_of_a_service_while_others_have_room() -> None:
    nodes = [node(name, capacity=amount(16, 4096)) for name in "abcdef"]
    plan = place(Snapshot.of(nodes), [replicas(9, Demand(WEB, amount(0.1)))])
    assert per_node(plan) == {"a": 3, "b": 3, "c": 3}


def test_a_third_is_of_all_replicas_also_of_those_that_run() -> None:
    nodes = [node("a", reserved=amount(2), replicas={WEB: 2}, task_count=2), node("b"), node("c")]
    plan = place(Snapshot.of(nodes), [replicas(4, Demand(WEB, amount(0.1)))])
    assert per_node(plan) == {"b": 2, "c": 2}


def test_replicas_on_a_lost_node_do_not_make_the_thirds_larger() -> None:
    """Otherwise replacements would be counted beside those whom they replace."""
    lost = node("z", state=NodeState.DOWN, replicas={WEB: 30}, task_count=30)
    plan = place(
        Snapshot.of([*THREE.nodes.values(), lost]), [replicas(3, Demand(WEB, amount(0.1)))]
    )
    assert per_node(plan) == {"a": 1, "b": 1, "c": 1}


def test_what_has_to_go_beyond_a_third_goes_in_equal_parts() -> None:
    plan = place(Snapshot.of([node("a"), node("b")]), [replicas(9, Demand(WEB, amount(0.1)))])
    assert sorted(per_node(plan).values()) == [4, 5]


def test_tasks_of_no_service_do_not_keep_apart() -> None:
    plan = place(THREE, [replicas(3, Demand(reservations=amount(1)))])
    assert per_node(plan) == {"a": 3}


def test_a_node_in_use_is_preferred_to_an_empty_one_that_fits_better() -> None:
    snapshot = Snapshot.of(
        [node("a", capacity=amount(1, 1024)), node("b", reserved=amount(1, 64), task_count=1)]
    )
    assert per_node(place(snapshot, [replicas(1, Demand(WEB, amount(1, 1024)))])) == {"b": 1}


def test_of_nodes_in_use_the_one_that_is_left_with_least_is_preferred() -> None:
    nodes = [
        node("a", reserved=amount(1, 1024), task_count=1),
        node("b", reserved=amount(2, 2048), task_count=1),
        node("c", reserved=amount(3, 3900), task_count=1),
    ]
    plan = place(Snapshot.of(nodes), [replicas(1, Demand(WEB, amount(1, 512)))])
    assert per_node(plan) == {"b": 1}


def test_a_lopsided_remainder_is_worse_than_an_even_one_of_the_same_size() -> None:
    nodes = [
        node("a", reserved=amount(3, 1024), task_count=1),  # would leave no CPU, much memory
        node("b", reserved=amount(2, 2048), task_count=1),
    ]
    plan = place(Snapshot.of(nodes), [replicas(1, Demand(WEB, amount(1, 1024)))])
    assert per_node(plan) == {"b": 1}


def test_tasks_on_sound_nodes_count_for_the_branches_of_failing_ones() -> None:
    failing = {"failures": {(WEB, 0): 5}}
    nodes = [
        node("a", labels={"zone": "1"}, capacity=amount(1, 4096)),
        node("b", labels={"zone": "2"}, capacity=amount(2, 4096)),
        node("c", labels={"zone": "2"}, **failing),
        node("d", labels={"zone": "1"}, **failing),
    ]
    demand = Demand(WEB, amount(1, 64), spread=("node.labels.zone",))
    plan = place(Snapshot.of(nodes), [replicas(4, demand)])
    assert per_node(plan) == {"a": 1, "b": 2, "d": 1}


def test_a_class_finds_room_on_more_nodes_than_are_put_in_order_first() -> None:
    nodes = [node(f"{i:02}", capacity=amount(1 + i / 100, 64), task_count=1) for i in range(80)]
    plan = place(Snapshot.of(nodes), [replicas(50, Demand(reservations=amount(1)))])
    assert len(plan.placements) == 50


def test_what_tasks_of_another_size_took_changes_which_node_fits_best() -> None:
    nodes = [
        node(name, task_count=1, capacity=amount(cpus, 4096))
        for name, cpus in (("a", 6), ("b", 5), ("c", 8), ("d", 8), ("e", 8))
    ]
    size = amount(1)
    at_a = (parse("node.id == a"),)
    first, second, third = (
        Demand(ServiceId("first"), size),
        Demand(ServiceId("second"), amount(4), constraints=at_a),
        Demand(ServiceId("third"), size),
    )
    plan = place(Snapshot.of(nodes), [replicas(1, each) for each in (first, second, third)])
    assert plan.placements == {"first.1": "b", "second.1": "a", "third.1": "a"}


def test_a_task_that_was_placed_with_others_like_it_counts_for_its_service() -> None:
    alike = [Demand(ServiceId(name), amount(1, 64)) for name in ("web", "db")]
    newer = Demand(ServiceId("web"), amount(1, 64), version=2, max_replicas_per_node=1)
    plan = place(THREE, [replicas(1, each) for each in alike] + [replicas(1, newer, first=2)])
    assert plan.placements == {"web.1": "a", "db.1": "a", "web.2": "b"}


def test_where_tasks_must_be_apart_each_is_spread_by_those_before_it() -> None:
    racks = {"a": ("1", "x"), "b": ("1", "y"), "c": ("2", "x")}
    nodes = [
        node(name, labels={"zone": zone, "rack": rack}, task_count=int(name == "c"))
        for name, (zone, rack) in racks.items()
    ]
    apart = (Affinity(service="web", topology="node.labels.zone", anti=True),)
    demand = Demand(WEB, amount(1), service="web", affinities=apart, spread=("node.labels.rack",))
    plan = place(Snapshot.of(nodes), [replicas(2, demand)])
    assert plan.placements == {"web.1": "c", "web.2": "b"}


SIZES = [replicas(1, Demand(ServiceId(f"size{i}"), amount(i))) for i in range(1, 9)]
NEAR_WEB = (Affinity(service="web"),)


def test_what_was_packed_together_and_did_not_stand_takes_no_room() -> None:
    seeker = replicas(1, Demand(ServiceId("seeker"), amount(1), affinities=NEAR_WEB))
    plan = place(Snapshot.of([node("a", capacity=amount(36, 64))]), [*SIZES, seeker])
    assert len(plan.placements) == len(SIZES)


def test_what_was_packed_together_takes_room_from_who_comes_after() -> None:
    web = Demand(WEB, amount(1), service="web", ports=(HostPort(80),))
    seeker = Demand(ServiceId("seeker"), amount(1), affinities=NEAR_WEB)
    pending = [replicas(1, web), *SIZES, replicas(1, seeker)]
    plan = place(Snapshot.of([node("a", capacity=amount(37, 64))]), pending)
    assert len(plan.placements) == len(pending) - 1


def test_branches_are_not_taken_for_nodes_where_each_has_just_one() -> None:
    zones = {"f": "1", "e": "2", "d": "3", "c": "4", "b": "5", "a": "6"}  # the other way round
    nodes = [node(name, labels={"zone": zones[name]}, task_count=1) for name in "bcde"]
    nodes.append(node("a", labels={"zone": zones["a"]}, task_count=2, replicas={WEB: 2}))
    nodes.append(node("f", labels={"zone": zones["f"]}, task_count=1, capacity=amount(1, 4096)))
    demand = Demand(WEB, amount(1, 64), spread=("node.labels.zone",))
    plan = place(Snapshot.of(nodes), [replicas(10, demand)])
    assert per_node(plan) == {"b": 3, "c": 2, "d": 2, "e": 2, "f": 1}


def test_the_strategy_spread_goes_by_count_also_with_reservations() -> None:
    singles = [replicas(1, Demand(ServiceId(f"s{i}"), amount(1))) for i in range(5)]
    assert per_node(place(THREE, singles, strategy=Strategy.SPREAD)) == {"a": 2, "b": 2, "c": 1}


def test_ties_are_broken_by_the_nodes_id_whatever_their_order() -> None:
    backwards = Snapshot.of(reversed(list(THREE.nodes.values())))
    assert per_node(place(backwards, [replicas(1, Demand(WEB, amount(1)))])) == {"a": 1}


def test_the_oldest_tasks_get_what_room_there_is() -> None:
    plan = place(Snapshot.of([node("a")]), [replicas(6, Demand(WEB, amount(1)))])
    assert list(plan.placements) == ["web.1", "web.2", "web.3", "web.4"]
    assert plan.unplaced[0].task_ids == ("web.5", "web.6")


# --- feasibility ------------------------------------------------------------------------------


def test_a_port_of_a_host_has_one_holder_for_an_address_and_every_address_overlaps() -> None:
    snapshot = Snapshot.of([node("a", ports={(80, "tcp"): ("198.18.0.1",)})])

    def placed(*ports: HostPort) -> bool:
        return bool(place(snapshot, [replicas(1, Demand(WEB, ports=ports))]).placements)

    assert not placed(HostPort(80))
    assert not placed(HostPort(80, address="198.18.0.1"))
    assert placed(HostPort(80, address="198.18.0.2"))
    assert placed(HostPort(80, protocol="udp"))
    assert placed(HostPort(81))


def test_tasks_that_publish_a_port_go_one_to_a_node() -> None:
    demand = Demand.of(WEB, spec(amount(), PublishedPort(target=80, published=8080)))
    plan = place(THREE, [replicas(5, demand)])
    assert per_node(plan) == {"a": 1, "b": 1, "c": 1}
    assert why(plan) == ["no node fits; 3 nodes: host port 8080/tcp in use"]


def test_a_port_that_docker_chooses_is_no_demand() -> None:
    demand = Demand.of(WEB, spec(amount(), PublishedPort(target=80)))
    assert len(place(THREE, [replicas(5, demand)]).placements) == 5


def test_addresses_are_compared_by_meaning() -> None:
    def port(host_ip: str) -> HostPort:
        return HostPort.of(PublishedPort(target=1, published=80, protocol="TCP", host_ip=host_ip))

    assert port("0.0.0.0") == port("::") == port("[::]") == HostPort(80)
    assert port("[fd00:0::1]") == HostPort(80, "tcp", "fd00::1")
    assert str(port("fd00::1")) == "[fd00::1]:80/tcp"


def test_an_architecture_may_go_by_either_name() -> None:
    arm = NodeSnapshot(NodeFacts(NodeId("a"), platform=Platform(os="linux", architecture="arm64")))
    demand = Demand(WEB, platforms=(Platform(os="linux", architecture="aarch64"),))
    assert place(Snapshot.of([arm]), [replicas(1, demand)]).placements
    amd = Demand(WEB, platforms=(Platform(os="linux", architecture="amd64"), Platform(os="plan9")))
    assert why(place(Snapshot.of([arm]), [replicas(1, amd)])) == [
        "no node fits; 1 node: platform is not linux/amd64 or plan9/any"
    ]


def test_a_node_whose_capacity_shrank_takes_only_what_needs_none_of_it() -> None:
    shrunk = Snapshot.of([node("a", capacity=amount(4, 1024), reserved=amount(1, 2048))])
    assert place(shrunk, [replicas(1, Demand(WEB, amount(cpus=1)))]).placements
    plan = place(shrunk, [replicas(1, Demand(WEB, amount(1, 1)))])
    assert why(plan) == ["no node fits; 1 node: short of 1.01 GiB memory"]


def test_replicas_of_other_versions_and_stopping_ones_count_for_the_limit() -> None:
    nodes = Snapshot.of([node("a", replicas={WEB: 1}, task_count=1), node("b")])
    plan = place(nodes, [replicas(3, Demand(WEB, max_replicas_per_node=1))])
    assert per_node(plan) == {"b": 1}
    assert why(plan) == ["no node fits; 2 nodes: at the limit of 1 per node of this service"]


# --- tasks with one node to go to -------------------------------------------------------------


def test_a_task_with_one_node_is_checked_against_that_one_and_comes_first() -> None:
    pinned = Demand(ServiceId("agent"), amount(4))
    pending = [
        PendingTask(TaskId("web.1"), Demand(WEB, amount(1))),
        PendingTask(TaskId("agent.a"), pinned, NodeId("a")),
        PendingTask(TaskId("agent.x"), pinned, NodeId("x")),
        PendingTask(TaskId("agent.p"), pinned, NodeId("p")),
    ]
    paused = node("p", availability=Availability.PAUSE, reserved=amount(1))
    plan = place(Snapshot.of([*THREE.nodes.values(), paused]), group(pending))
    assert plan.placements == {"agent.a": "a", "web.1": "b"}
    assert why(plan) == [
        "its node x does not take it: no such node",
        "its node host-p does not take it: paused; short of 1 CPU",
    ]


# --- what cannot be done is a value -----------------------------------------------------------


def test_reasons_are_counted_by_the_first_that_holds_for_each_node() -> None:
    ssd = {"disk": "ssd"}
    nodes = [
        node("a", labels=ssd, capacity=amount(4, 100)),
        node("b", labels=ssd, capacity=amount(4, 20)),
        node("c", capacity=amount(4, 20)),
        node("d", labels=ssd, state=NodeState.DOWN),
        node("e", labels=ssd, state=NodeState.DOWN, availability=Availability.DRAIN),
        node("f", labels=ssd, capacity=amount(0.5, 20)),
        node("g", labels=ssd, state=NodeState.UNKNOWN),
    ]
    demand = Demand.of(WEB, spec(amount(1, 200), constraints=("node.labels.disk==ssd",)))
    plan = place(Snapshot.of(nodes), [replicas(2, demand)])
    assert plan.unplaced[0].task_ids == ("web.1", "web.2")
    assert str(plan.unplaced[0]) == (
        "no node fits; 2 nodes: down; 2 nodes: short of at least 100 MiB memory; "
        "1 node: not heard of yet; 1 node: constraint node.labels.disk == ssd not met; "
        "1 node: short of 0.5 CPU and 180 MiB memory"
    )


def test_an_empty_cluster_takes_nothing() -> None:
    plan = place(Snapshot(version=7), [replicas(1, Demand(WEB))])
    assert why(plan) == ["no node fits: the cluster has no nodes"]
    assert plan.snapshot_version == 7


def test_nothing_waits_so_nothing_is_planned() -> None:
    assert place(THREE, []) == Plan()


@pytest.mark.parametrize(
    ("demand", "said"),
    [
        (Demand(WEB, Resources(cpu_nanos=-1)), "reserves -1 cpu_nanos"),
        (Demand(WEB, Resources(memory_bytes=2**63)), "reserves 9223372036854775808 memory_bytes"),
        (Demand(WEB, Resources(cpu_nanos=float("nan"))), "reserves nan cpu_nanos"),  # type: ignore[arg-type]
        (Demand(WEB, ports=(HostPort(80), HostPort(80, address="::1"))), "80/tcp twice"),
        (Demand(WEB, ports=(HostPort(70_000),)), "host port 70000"),
        (Demand(WEB, max_replicas_per_node=-1), "-1 replicas per node"),
        (Demand.of(WEB, spec(amount(), constraints=("disk=ssd",))), "constraint 'disk=ssd'"),
    ],
)
def test_a_demand_without_sense_is_an_answer_not_an_error(demand: Demand, said: str) -> None:
    plan = place(THREE, [replicas(2, demand)])
    assert plan.placements == {}
    assert plan.unplaced[0].task_ids == ("web.1", "web.2")
    assert str(plan.unplaced[0]).startswith("cannot be placed anywhere: ")
    assert said in str(plan.unplaced[0])


def test_a_task_that_waits_twice_is_placed_once() -> None:
    task = PendingTask(TaskId("t"), Demand(WEB, amount(4)))
    other = PendingTask(TaskId("t"), Demand(WEB, amount(1)))
    assert group([task, other, task]) == (Group(task.demand, (task.id,)),)


def test_a_group_names_a_node_for_each_task_or_for_none() -> None:
    with pytest.raises(ValueError, match="2 tasks, but 1 nodes"):
        Group(Demand(), (TaskId("a"), TaskId("b")), (NodeId("n"),))

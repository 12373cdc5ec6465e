"""Each invariant by what breaks it: a cluster that is well, and one thing that is not."""

from collections.abc import Iterable

import msgspec
import pytest

from cluster.invariants import Breach, Name, State, Step, after, everything
from cluster.model import (
    Affinity,
    Availability,
    ContainerSpec,
    Mount,
    MountKind,
    Node,
    NodeDescription,
    NodeId,
    NodeSpec,
    NodeState,
    NodeStatus,
    Object,
    Placement,
    Platform,
    PublishedPort,
    Service,
    ServiceId,
    ServiceMode,
    ServiceSpec,
    ServiceVersion,
    Stack,
    StackId,
    Task,
    TaskId,
    TaskSpec,
    TaskState,
    TaskStatus,
)
from cluster.resources import Resources

S = TaskState
CPU = 1_000_000_000
ZONE = "node.labels.zone"
REPLACE = msgspec.structs.replace


def node(name: str, cpus: int = 4, **changes: object) -> Node:
    description = NodeDescription(
        hostname=name,
        capacity=Resources(cpu_nanos=cpus * CPU, memory_bytes=8 << 30),
        platform=Platform(os="linux", architecture="x86_64"),
    )
    value = Node(
        id=NodeId(f"id-{name}"),
        description=description,
        status=NodeStatus(state=NodeState.READY),
        spec=NodeSpec(labels={"disk": "ssd"}),
    )
    return REPLACE(value, **changes)


def service(name: str, stack: str = "", **changes: object) -> tuple[Service, ServiceVersion]:
    reservations = Resources(cpu_nanos=CPU, memory_bytes=1 << 30)
    template = TaskSpec(container=ContainerSpec(image="app:1"), reservations=reservations)
    spec = ServiceSpec(name=name, stack=stack, replicas=3, task=REPLACE(template, **changes))
    return of_spec(spec)


def of_spec(spec: ServiceSpec, number: int = 1) -> tuple[Service, ServiceVersion]:
    service_id = ServiceId(f"id-{spec.name}")
    return (
        Service(id=service_id, spec=spec, spec_version=number),
        ServiceVersion(service_id=service_id, number=number, spec=spec),
    )


def task(
    name: str,
    state: TaskState = S.RUNNING,
    desired: TaskState = S.RUNNING,
    *,
    of: str = "web",
    slot: int = 1,
    on: str = "n1",
    **changes: object,
) -> Task:
    value = Task(
        id=TaskId(name),
        service_id=ServiceId(f"id-{of}"),
        spec_version=1,
        slot=slot,
        node_id=NodeId(f"id-{on}" if on else ""),
        desired_state=desired,
        status=TaskStatus(state=state),
    )
    return REPLACE(value, **changes)


def well(*more: Object) -> State:
    """Return a cluster in which all is well, unless *more* breaks it."""
    state = State(with_names=True)
    cluster = [
        node("n1"),
        node("n2"),
        Stack(id=StackId("id-st"), name="st"),
        *service("web"),
        *service("st_db", "st", ports=(PublishedPort(target=1, published=80),)),
        task("w1", slot=1),
        task("w0", S.FAILED, slot=1),
        task("w2", S.SHUTDOWN, S.SHUTDOWN, slot=2),
        task("w3", S.NEW, S.READY, slot=2, on=""),
        task("d1", of="st_db", on="n2"),
    ]
    for value in (*cluster, *more):
        state.put(value)
    for kind, text in (("services", "web"), ("services", "st_db"), ("stacks", "st")):
        state.name(Name(kind, text), f"id-{text}")
    return state


def told(breaches: Iterable[Breach], *, certain: bool = True) -> list[str]:
    return [str(breach) for breach in breaches if breach.certain is certain]


def test_a_cluster_that_is_well_has_no_breach() -> None:
    state = well()
    assert list(everything(state)) == []
    unchanged = [Step(value, value) for value in state.tasks.values()]
    assert list(after(state, unchanged, state.names or ())) == []


# --- what can be told from the state alone ---


def port(number: int, address: str = "", protocol: str = "tcp") -> PublishedPort:
    return PublishedPort(target=1, published=number, host_ip=address, protocol=protocol)


@pytest.mark.parametrize(
    ("one", "other", "collide"),
    [
        (port(80), port(80), True),
        (port(80), port(80, "192.0.2.1"), True),
        (port(80, "0.0.0.0"), port(80, "192.0.2.1"), True),
        (port(80, "[::]"), port(80, "2001:db8::1"), True),
        (port(80, "192.0.2.1"), port(80, "192.0.2.1"), True),
        (port(80, "2001:db8::1"), port(80, "[2001:db8:0::1]"), True),
        (port(80, "192.0.2.1"), port(80, "192.0.2.2"), False),
        (port(80), port(81), False),
        (port(80), port(80, protocol="udp"), False),
        (port(80, protocol="TCP"), port(80), True),
        (port(0), port(0), False),
    ],
)
def test_a_host_port_has_one_holder(
    one: PublishedPort, other: PublishedPort, *, collide: bool
) -> None:
    state = well(*service("a", ports=(one,)), *service("b", ports=(other,)))
    state.names = None
    state.put(task("a1", of="a"))
    step = state.put(task("b1", S.ASSIGNED, of="b"))
    for found in (everything(state), after(state, [step])):
        breaches = told(found)
        assert [text[:2] for text in breaches] == ["I1"] * collide
        assert all("a.1 (a1)" in text and "b.1 (b1)" in text for text in breaches)
    state.put(task("b1", S.COMPLETE, of="b"))
    assert told(everything(state)) == [], "who has ended holds no port"


def test_a_task_may_hold_a_port_at_two_addresses_and_its_own_twice_is_not_two_holders() -> None:
    both = (port(80, "192.0.2.1"), port(80, "192.0.2.2"), port(80, "192.0.2.2"))
    state = well(*service("a", ports=both), task("a1", of="a"))
    state.names = None
    assert list(everything(state)) == []


def test_more_reserved_than_there_is_may_be_for_a_capacity_that_shrank() -> None:
    state = well(task("w4", slot=3))
    step = state.put(node("n1", cpus=1))
    for found in (everything(state), after(state, [step])):
        (doubt,) = told(found, certain=False)
        assert "'n1' reserve 2000000000 cpu_nanos, it offers 1000000000" in doubt
    assert told(everything(state)) == []


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (task("w4", S.PENDING, slot=1, on=""), "I2: 2 tasks are current in one place"),
        (task("w4", S.REMOVE), "I3: web.1 (w4) was seen in state remove"),
        (task("w4", S.RUNNING, slot=3, on=""), "I3: web.3 (w4) is running without a node"),
        (task("w4", S.PENDING, slot=3), "I3: web.3 (w4) is pending, yet has node 'n1'"),
        (task("w4", S.RUNNING, S.FAILED, slot=3), "I3: web.3 (w4) is desired to be failed"),
        (task("w4", slot=3, spec_version=2), "I19: web.3 (w4) runs version 2 of 'web', which"),
        (task("w4", S.NEW, slot=3, on="", spec_version=2), "I19: web.3 (w4) runs version 2"),
        (task("w4", of="gone"), "I19: removed service id-gone.1 (w4) runs version 1 of"),
        (service("new")[0], "I19: service 'new' has no record of its version 1"),
        (REPLACE(service("web")[0], spec_version=2), "I19: service 'web' has no record of its"),
        (service("web", ports=(port(1),))[0], "I19: service 'web' is not what the record of"),
        (service("st_db", "ts")[0], "I19: service 'st_db' is of stack 'ts', which is not there"),
        (
            REPLACE(service("web")[0], id=ServiceId("x")),
            "I19: the name 'web' among the services is that of 2: id-web",
        ),
        (
            Stack(id=StackId("x"), name="st"),
            "I19: the name 'st' among the stacks is that of 2: id-st",
        ),
        (service("new")[0], "I19: the name 'new' among the services stands for nothing, not"),
        (Stack(id=StackId("x"), name="ts"), "I19: the name 'ts' among the stacks stands for"),
    ],
)
def test_what_is_wrong_is_found_in_the_state_and_after_the_step(value: Object, said: str) -> None:
    state = well()
    step = state.put(value)
    assert any(text.startswith(said) for text in told(everything(state)))
    assert any(text.startswith(said) for text in told(after(state, [step])))


def test_a_global_services_place_is_its_node() -> None:
    spec = REPLACE(service("all")[0].spec, mode=ServiceMode.GLOBAL)
    state = well(
        *of_spec(spec), task("g1", of="all", slot=0), task("g2", of="all", slot=0, on="n2")
    )
    state.name(Name("services", "all"), "id-all")
    assert list(everything(state)) == []
    state.put(task("g3", S.NEW, of="all", slot=0))
    (breach,) = told(everything(state))
    assert "all.n1 (g1) [running, to be running], all.n1 (g3) [new, to be running]" in breach


def test_who_runs_beside_a_predecessor_may_have_waited_for_it_long_enough() -> None:
    state = well(task("w4", S.STARTING, slot=2))
    state.drop(task("w3"))
    assert list(everything(state)) == []
    step = state.put(task("w2", S.RUNNING, S.SHUTDOWN, slot=2))
    for found in (everything(state), after(state, [step])):
        (doubt,) = told(found, certain=False)
        assert "web.2 (w4) [starting, to be running] is let to run beside web.2 (w2)" in doubt


def test_a_task_of_a_removed_service_goes() -> None:
    state = well()
    step = state.drop(state.services[ServiceId("id-web")])
    state.name(Name("services", "web"), None)
    for found in (everything(state), after(state, [step])):
        doubts = told(found, certain=False)
        assert len(doubts) == 2
        assert "(w1) was removed, yet the task is running and to be running" in doubts[0]
    for value in list(state.of_service(ServiceId("id-web"))):
        state.put(REPLACE(value, desired_state=S.REMOVE))
    assert list(everything(state)) == []


def test_a_bound_task_keeps_its_version_and_a_remainder_needs_none() -> None:
    state = well()
    step = state.drop(state.versions[ServiceId("id-web"), 1])
    breaches = [text for text in told(after(state, [step])) if "runs version" in text]
    assert [text.split()[2] for text in breaches] == ["(w1)", "(w3)"], "w0 and w2 have ended"
    state.drop(state.services[ServiceId("id-web")])
    state.name(Name("services", "web"), None)
    breaches = told(everything(state))
    assert len(breaches) == 1, "w3 was never bound: it needs its version no more"
    assert "(w1) runs version 1" in breaches[0]


def test_a_stack_outlasts_its_services() -> None:
    state = well()
    step = state.drop(state.stacks[StackId("id-st")])
    state.name(Name("stacks", "st"), None)
    for found in (everything(state), after(state, [step])):
        (breach,) = told(found)
        assert "'st_db' is of stack 'st', which is not there" in breach


def test_a_step_is_judged_by_all_that_hangs_on_what_it_changed() -> None:
    state = well(*service("idle"))
    state.name(Name("services", "idle"), "id-idle")
    step = state.put(Stack(id=StackId("id-st"), name="renamed"))
    assert any("of stack 'st', which is not there" in text for text in told(after(state, [step])))
    step = state.drop(state.versions[ServiceId("id-idle"), 1])
    (breach,) = told(after(state, [step]))
    assert "service 'idle' has no record of its version 1" in breach


@pytest.mark.parametrize("name", [Name("services", "web"), Name("stacks", "st")])
def test_a_name_and_its_object_go_together(name: Name) -> None:
    state = well()
    state.name(name, None)
    for found in (everything(state), after(state, [], [name])):
        (breach,) = told(found)
        assert f"'{name.text}' among the {name.kind} stands for nothing" in breach
    state.name(name, "other")
    for found in (everything(state), after(state, [], [name])):
        assert any("stands for other, which is not there" in text for text in told(found))


# --- steps ---


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (task("t", slot=3), task("t", S.STARTING, slot=3), "went back from running to starting"),
        (
            task("t", S.RUNNING, S.SHUTDOWN, slot=3),
            task("t", S.RUNNING, S.RUNNING, slot=3),
            "was desired to go back from shutdown to running",
        ),
        (task("t", slot=3), task("t", slot=2), "has changed its slot from 3 to 2"),
        (task("t", slot=3), task("t", slot=3, on="n2"), "has moved from node 'n1' to 'n2'"),
        (
            task("t", S.FAILED, slot=3),
            task("t", slot=3, status=TaskStatus(state=S.FAILED, exit_code=1)),
            "had ended (failed), yet changed: exit_code None to 1",
        ),
        (
            task("t", S.COMPLETE, slot=3),
            task("t", S.FAILED, slot=3),
            "had ended (complete), yet changed: state",
        ),
    ],
)
def test_a_task_goes_forward(old: Task, new: Task, said: str) -> None:
    state = well(old)
    step = state.put(new)
    for every_write in (True, False):
        found = told(after(state, [step], every_write=every_write))
        assert any(said in text and text.startswith("I3: web.") for text in found), found


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            task("t", S.PENDING, slot=3, on=""),
            task("t", S.ACCEPTED, slot=3),
            "went from pending to accepted: no agent had been told",
        ),
        (
            task("t", S.READY, S.READY, slot=3),
            task("t", S.RUNNING, S.RUNNING, slot=3),
            "was reported running and desired from ready to running in one write",
        ),
        (
            task("t", slot=3),
            task("t", slot=3, status=TaskStatus(state=S.RUNNING, container_id="c")),
            "did not advance (running), yet changed: container_id",
        ),
    ],
)
def test_a_transition_has_one_owner(old: Task, new: Task, said: str) -> None:
    state = well(old)
    step = state.put(new)
    assert any(said in text for text in told(after(state, [step])))
    assert told(after(state, [step], every_write=False)) == [], "steps between were not seen"


def test_what_the_leader_and_the_agents_do_is_no_breach() -> None:
    state = well()
    life = [
        task("t", S.NEW, S.READY, slot=3, on=""),
        task("t", S.PENDING, S.READY, slot=3, on=""),
        task("t", S.PENDING, S.READY, slot=3, on="", status=TaskStatus(state=S.PENDING, error="x")),
        task("t", S.ASSIGNED, S.READY, slot=3),
        task("t", S.READY, S.READY, slot=3),
        task("t", S.READY, S.RUNNING, slot=3),
        task("t", S.RUNNING, S.RUNNING, slot=3),
        task("t", S.ORPHANED, S.SHUTDOWN, slot=3),
        task("t", S.ORPHANED, S.REMOVE, slot=3),
    ]
    for value in life:
        assert list(after(state, [state.put(value)])) == []
    assert list(after(state, [state.drop(life[-1])])) == []


def test_a_task_is_not_made_to_run_beside_a_predecessor() -> None:
    state = well(task("w2", S.RUNNING, S.SHUTDOWN, slot=2))
    step = state.put(task("w3", S.NEW, S.READY, slot=2, on=""))
    assert list(after(state, [step])) == []
    state.drop(task("w3"))
    step = state.put(task("w4", S.NEW, S.RUNNING, slot=2, on=""))
    (breach,) = told(after(state, [step]))
    assert "web.2 (w4) was made to run at once beside web.2 (w2) [running, to be sh" in breach


def test_a_successor_of_the_same_version_is_there_because_its_holder_moves_or_perhaps_did() -> None:
    successor = task("w4", S.READY, S.READY, created_at=1.0)
    state = well()
    (breach,) = after(state, [state.put(successor)])
    assert (breach.invariant, breach.certain) == ("I2", False)
    state = well(task("w1", S.RUNNING, moving="node n1 is drained"))
    assert list(after(state, [state.put(successor)])) == []


WEB_2 = of_spec(service("web")[0].spec, 2)[1]


@pytest.mark.parametrize(
    ("successor", "said"),
    [
        (task("w4", S.READY, S.READY, spec_version=2, created_at=1.0), ""),
        (task("w4", S.RUNNING, spec_version=2, created_at=1.0, start_first=True), ""),
        (task("w4", S.NEW, on="", spec_version=2, created_at=1.0, start_first=True), ""),
        (task("w4", S.RUNNING, spec_version=2, created_at=1.0), "I2: 2 tasks are current"),
    ],
)
def test_an_update_has_a_successor_beside_the_holder_and_no_more(
    successor: Task, said: str
) -> None:
    state = well(WEB_2)
    step = state.put(successor)
    for found in (list(everything(state)), list(after(state, [step], every_write=False))):
        assert [text for text in told(found) if not text.startswith(said or "no")] == []
        assert bool(told(found)) == bool(said)
        assert said or not told(found, certain=False)
    step = state.put(task("w5", S.NEW, S.READY, on="", spec_version=3, created_at=2.0))
    assert any(text.startswith("I2: 3 tasks are current") for text in told(after(state, [step])))


def test_one_that_goes_start_first_is_made_beside_one_other() -> None:
    state = well(WEB_2)
    fields = {"on": "", "spec_version": 2, "created_at": 1.0}
    step = state.put(task("w4", S.NEW, start_first=True, **fields))  # type: ignore[arg-type]
    assert list(after(state, [step])) == []
    state.drop(task("w4"))
    state.put(task("w5", S.RUNNING, S.SHUTDOWN))
    step = state.put(task("w4", S.NEW, start_first=True, **fields))  # type: ignore[arg-type]
    assert any("made to run at once" in text for text in told(after(state, [step])))


def test_a_version_never_changes_and_a_service_counts_its_versions() -> None:
    state = well()
    old, version = service("web")
    other = REPLACE(old.spec, replicas=7)
    assert "version 1 of 'web' has changed" in str(
        told(after(state, [state.put(REPLACE(version, spec=other))]))
    )
    found = told(after(state, [state.put(REPLACE(old, spec=other))]))
    assert any("has changed, yet is at version 1 as before" in text for text in found)
    state.put(REPLACE(old, spec_version=3))
    found = told(after(state, [state.put(REPLACE(old, spec_version=2))]))
    assert any("went back from version 3 to 2" in text for text in found)
    found = told(after(state, [state.put(REPLACE(old, spec=REPLACE(other, stack="st")))]))
    assert any("has changed its stack, which cannot change" in text for text in found)


# --- binding ---


def bind(state: State, **changes: object) -> list[Breach]:
    waiting = task("t", S.PENDING, of="new", slot=1, on="", version=5)
    state.put(waiting)
    state.name(Name("services", "new"), "id-new")
    bound = task("t", S.ASSIGNED, of="new", slot=1, version=6)
    return list(after(state, [state.put(REPLACE(bound, **changes))]))


def test_a_binding_leaves_the_sum_within_the_capacity() -> None:
    for cpus, fits in ((3, True), (4, False)):
        state = well(*service("new", reservations=Resources(cpu_nanos=cpus * CPU)))
        found = bind(state)
        assert [(b.invariant, b.certain) for b in found] == [("I1", True), ("I1", False)] * (
            not fits
        )
        if not fits:
            shrunk = well(
                node("n1", version=7), *service("new", reservations=Resources(cpu_nanos=4 * CPU))
            )
            assert told(bind(shrunk)) == [], "written after it was bound: what it was is not known"
        said = "reserve 5000000000 of 4000000000"
        assert all(said in breach.text for breach in found if breach.certain)


def test_a_dimension_that_a_task_does_not_need_is_not_its_business() -> None:
    shrunk = node("n1", cpus=0)
    state = well(shrunk, *service("new", reservations=Resources(memory_bytes=1)))
    assert told(bind(state)) == []
    state = well(shrunk, *service("new", reservations=Resources(cpu_nanos=1)))
    assert len(told(bind(state))) == 1


@pytest.mark.parametrize(
    ("placement", "where", "said"),
    [
        (Placement(), node("n1"), ""),
        (Placement(constraints=("node.labels.disk == ssd",)), node("n1"), ""),
        (
            Placement(constraints=("node.labels.disk == hdd",)),
            node("n1"),
            "constraint node.labels.disk == hdd does not hold there",
        ),
        (Placement(constraints=("nonsense",)), node("n1"), "one cannot tell whether it may"),
        (Placement(platforms=(Platform(os="linux", architecture="amd64"),)), node("n1"), ""),
        (
            Placement(platforms=(Platform(os="linux", architecture="arm64"),)),
            node("n1"),
            "that is linux/x86_64, which is none of the platforms it can run on",
        ),
        (
            Placement(platforms=(Platform(os="windows"),)),
            node("n1"),
            "that is linux/x86_64, which is none of the platforms it can run on",
        ),
        (Placement(), node("n1", status=NodeStatus(state=NodeState.DOWN)), "that is down"),
        (
            Placement(),
            node("n1", spec=NodeSpec(availability=Availability.DRAIN)),
            "that is set to drain",
        ),
        (
            Placement(),
            node("n1", spec=NodeSpec(availability=Availability.DRAIN), version=7),
            "",  # drained after it was bound
        ),
        (
            Placement(tolerates=("gpu",)),
            node("n1", spec=NodeSpec(reserved_for=("gpu", "team"))),
            "that is reserved for team",
        ),
        (
            Placement(tolerates=("gpu", "team", "x")),
            node("n1", spec=NodeSpec(reserved_for=("gpu", "team"))),
            "",
        ),
        (Placement(max_replicas_per_node=2), node("n1"), ""),
        (
            Placement(max_replicas_per_node=1),
            node("n1"),
            "that makes 2 tasks of the service there, of 1 at most",
        ),
    ],
)
def test_a_binding_keeps_to_what_was_asked_for(
    placement: Placement, where: Node, said: str
) -> None:
    state = well(where, *service("new", placement=placement))
    state.put(task("other", of="new", slot=2))
    state.put(task("ended", S.FAILED, of="new", slot=3))
    found = told(bind(state))
    assert len(found) == bool(said)
    assert all(said in text and text.startswith("I6: new.1 (t) was bound to") for text in found)


def test_a_node_takes_no_more_tasks_than_it_has_slots_for() -> None:
    for slots, said in ((2, []), (1, ["which takes 1 tasks and now has 2"])):
        state = well(node("n1", spec=NodeSpec(task_slots=slots)), *service("new"))
        found = told(bind(state))
        assert len(found) == len(said)
        assert all(text.startswith("I1: ") and said[0] in text for text in found)


def test_a_task_is_given_what_its_node_has() -> None:
    has = NodeDescription(
        hostname="n1", capacity=Resources(cpu_nanos=9 * CPU, memory_bytes=9 << 30)
    )
    gpus = REPLACE(has, generic_items={"gpu": ("a", "b")})
    state = well(node("n1", description=gpus), *service("new"))
    assert bind(state, generic_items={"gpu": ("b",)}) == []
    (breach,) = told(bind(state, generic_items={"gpu": ("b", "c")}))
    assert "was given gpu c, which node 'n1' does not have" in breach


def test_a_named_resource_has_one_holder() -> None:
    state = well(task("w4", slot=3, generic_items={"gpu": ("a",)}))
    assert list(everything(state)) == []
    step = state.put(task("w5", slot=4, generic_items={"gpu": ("b", "a")}))
    for found in (everything(state), after(state, [step])):
        (breach,) = told(found)
        assert "on node 'n1' gpu a has two holders: web.3 (w4) and web.4 (w5)" in breach
    step = state.put(task("w5", slot=4, generic_items={"gpu": ("b",)}))
    (breach,) = told(after(state, [step]))
    assert "was given other generic resources" in breach
    state.put(task("w6", S.FAILED, slot=5, generic_items={"gpu": ("a",)}))
    assert list(everything(state)) == [], "who has ended holds nothing"


LIVES_HERE = Mount(kind=MountKind.VOLUME, source="data", target="/data", bound=True)


@pytest.mark.parametrize(
    ("homes", "said"),
    [
        ((), ""),
        (("n1",), ""),
        (("n1", "n2"), ""),
        (("n2",), "its volume data lives on 'n2'"),
    ],
)
def test_a_task_goes_where_its_volume_lives(homes: tuple[str, ...], said: str) -> None:
    anywhere = REPLACE(LIVES_HERE, source="scratch", bound=False)
    container = ContainerSpec(image="app:1", mounts=(LIVES_HERE, anywhere))
    state = well(*service("new", container=container))
    state.put(node("n3", spec=NodeSpec(volumes=("scratch",))))
    for home in homes:
        state.put(node(home, spec=NodeSpec(volumes=("data",))))
    found = told(bind(state))
    assert len(found) == bool(said)
    assert all(said in text for text in found)


@pytest.mark.parametrize(
    ("affinity", "zones", "said"),
    [
        # web runs on n1, st_db on n2
        (Affinity(service="web", anti=True), {}, "web.1 (w1) is there"),
        (Affinity(service="web", anti=True, weight=5), {}, ""),
        (Affinity(service="st_db", anti=True), {}, ""),
        (Affinity(service="st_db", anti=True, topology=ZONE), {}, ""),
        (Affinity(service="st_db", anti=True, topology=ZONE), {"n1": "z", "n2": "y"}, ""),
        (
            Affinity(service="st_db", anti=True, topology=ZONE),
            {"n1": "z", "n2": "z"},
            "it must be apart from st_db by node.labels.zone, and st_db.1 (d1) is there",
        ),
        (Affinity(service="new", anti=True), {}, ""),
        (Affinity(service="web"), {}, ""),
        (Affinity(service="st_db", weight=5), {}, ""),
        (Affinity(service="st_db"), {}, "no task of st_db is near by node.id, as it must be"),
        (Affinity(service="st_db", topology=ZONE), {"n1": "z", "n2": "z"}, ""),
        (Affinity(service="st_db", topology=ZONE), {}, "no task of st_db is near by"),
        (Affinity(service="new", topology=ZONE), {"n1": "z"}, ""),
        (Affinity(service="new", topology=ZONE), {}, "no task of new is near by"),
    ],
)
def test_company_is_kept_and_avoided(affinity: Affinity, zones: dict[str, str], said: str) -> None:
    state = well(*service("new", placement=Placement(affinities=(affinity,))))
    for name, zone in zones.items():
        state.put(node(name, spec=NodeSpec(labels={"zone": zone})))
    found = bind(state)
    assert len(found) == bool(said), found
    assert all(said in breach.text and breach.invariant == "I6" for breach in found)
    assert all(breach.certain is affinity.anti for breach in found), "who was near may have ended"


def test_who_must_be_apart_from_others_is_not_joined_by_them() -> None:
    others = (Affinity(service="nobody", anti=True), Affinity(service="new", anti=True))
    apart = Placement(affinities=others)
    hermit = service("hermit", placement=apart)
    state = well(*hermit, *service("new"), task("h1", of="hermit"))
    state.name(Name("services", "hermit"), "id-hermit")
    (breach,) = told(bind(state))
    assert "hermit.1 (h1), which is there, must be apart from it" in breach
    state.put(task("h1", S.FAILED, of="hermit"))
    assert told(bind(state)) == []
    state.put(task("h2", of="hermit", spec_version=2, slot=2))
    state.put(REPLACE(service("hermit")[1], number=2))
    assert told(bind(state)) == [], "its own version does not ask for that"


def test_who_must_be_near_its_own_begins_anywhere_and_then_keeps_to_it() -> None:
    state = well(*service("new", placement=Placement(affinities=(Affinity(service="new"),))))
    state.put(task("other", of="new", slot=2, on="n2"))
    (breach,) = bind(state)
    assert "no task of new is near by node.id" in breach.text
    state.put(task("other", of="new", slot=2, on="n9"))
    assert bind(state) == [], "the node of the other was removed"


def test_a_node_that_does_not_exist_takes_nothing() -> None:
    state = well(*service("new"))
    (breach,) = told(bind(state, node_id=NodeId("id-n9")))
    assert "was bound to node id-n9, which does not exist" in breach


def test_every_dimension_counts_whatever_dimensions_there_are() -> None:
    much = 1 << 60
    too_much = {
        "cpu_nanos": Resources(cpu_nanos=much),
        "memory_bytes": Resources(memory_bytes=much),
        "generic": Resources(generic={"gpu": much}),
    }
    assert too_much.keys() == set(Resources.__struct_fields__)
    for field, reservations in too_much.items():
        state = well(*service("new", reservations=reservations))
        (breach,) = told(bind(state))
        assert field in breach

"""Judging each step finds whatever judging the whole would find, however a state came to be.

The worlds are small on purpose: few names, nodes and places, so that objects collide; and wild:
nothing keeps a task from going back, or a record from naming what is not there.
"""

from collections.abc import Iterable, Iterator
from itertools import product

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.invariants import Breach, Name, State, after, everything
from cluster.model import (
    ContainerSpec,
    Node,
    NodeDescription,
    NodeId,
    Object,
    PublishedPort,
    Service,
    ServiceId,
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

NAMES = ("a", "b")
SERVICES = (ServiceId("s1"), ServiceId("s2"))
NODES = (NodeId("n1"), NodeId("n2"))
ADDRESSES = ("", "192.0.2.1", "192.0.2.2")


def ports(*addresses: str) -> tuple[PublishedPort, ...]:
    return tuple(PublishedPort(target=1, published=80, host_ip=each) for each in addresses)


def specs() -> Iterator[ServiceSpec]:
    for name, stack, amount, address in product(NAMES, ("", "a"), (0, 1), ADDRESSES):
        task = TaskSpec(
            container=ContainerSpec(image="i"),
            reservations=Resources(cpu_nanos=amount),
            ports=ports(address) if amount else (),
        )
        yield ServiceSpec(name=name, stack=stack, task=task)


def objects() -> Iterator[Object]:
    """Yield all objects that the worlds are made of, each kind about as often as the others."""
    for node_id, amount in product(NODES, (0, 1, 2)):
        description = NodeDescription(capacity=Resources(cpu_nanos=amount))
        yield Node(id=node_id, description=description)
    for stack_id, name in product(("x", "y"), NAMES):
        yield Stack(id=StackId(stack_id), name=name)
    for service_id, number, spec in product(SERVICES, (1, 2), specs()):
        yield Service(id=service_id, spec=spec, spec_version=number)
        yield ServiceVersion(service_id=service_id, number=number, spec=spec)


def tasks() -> Iterator[Task]:
    ids = (TaskId("t1"), TaskId("t2"), TaskId("t3"))
    for task_id, service_id, slot, node_id in product(ids, SERVICES, (0, 1), ("", *NODES)):
        for state, desired in product(TaskState, (TaskState.READY, *LATE)):
            yield Task(
                id=task_id,
                service_id=service_id,
                spec_version=1,
                slot=slot,
                node_id=NodeId(node_id),
                desired_state=desired,
                status=TaskStatus(state=state),
            )


LATE = (TaskState.RUNNING, TaskState.SHUTDOWN, TaskState.REMOVE, TaskState.FAILED)
OBJECTS = st.sampled_from(tuple(objects())) | st.sampled_from(tuple(tasks()))
WRITES = st.tuples(OBJECTS, st.sampled_from([True, True, True, False]))
NAMED = st.sampled_from(
    [
        (Name(kind, text), object_id)
        for kind, ids in (("services", ("s1", "s2")), ("stacks", ("x", "y")))
        for text, object_id in product(NAMES, (None, *ids))
    ]
)
# What a transaction does: objects that are put or dropped, and keys of names.
TRANSACTIONS = st.tuples(st.lists(WRITES, max_size=3), st.lists(NAMED, max_size=1))


def grounds(breaches: Iterable[Breach]) -> set[tuple[str, frozenset[str]]]:
    """Return which promise is broken by which objects; the words may change with the rest."""
    return {(breach.invariant, frozenset(breach.objects)) for breach in breaches}


@settings(max_examples=200)
@given(st.lists(TRANSACTIONS, max_size=30))
def test_no_breach_comes_about_unnoticed(
    transactions: list[tuple[list[tuple[Object, bool]], list[tuple[Name, str | None]]]],
) -> None:
    state = State(with_names=True)
    known: set[tuple[str, frozenset[str]]] = set()
    for writes, names in transactions:
        steps = [state.put(value) if put else state.drop(value) for value, put in writes]
        for name, object_id in names:
            state.name(name, object_id)
        found = grounds(after(state, steps, [name for name, _ in names]))
        whole = grounds(everything(state))
        assert whole - known <= found, "judging the steps has missed what is wrong now"
        known = whole


@settings(max_examples=200)
@given(st.lists(WRITES, max_size=30))
def test_a_state_is_the_same_however_it_came_about(writes: list[tuple[Object, bool]]) -> None:
    followed = State()
    for value, put in writes:
        followed.put(value) if put else followed.drop(value)
    held = (
        *followed.nodes.values(),
        *followed.services.values(),
        *followed.versions.values(),
        *followed.stacks.values(),
        *followed.tasks.values(),
    )
    whole = State.of(held)
    assert grounds(everything(followed)) == grounds(everything(whole))
    assert set(followed.places()) == set(whole.places())
    for task in followed.tasks.values():
        assert task in list(followed.of_service(task.service_id))
        assert task in list(followed.on_node(task.node_id))


def test_the_words_of_a_step_are_those_of_what_it_changed() -> None:
    state = State()
    old = Task(id=TaskId("t"), service_id=SERVICES[0], spec_version=1)
    assert state.put(old) == (None, old)
    new = msgspec.structs.replace(old, slot=1)
    assert state.put(new) == (old, new)
    assert state.drop(old) == (new, None)
    assert state.drop(old) == (None, None)

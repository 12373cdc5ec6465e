"""The scheduler against a slow one that is plainly right, on random small clusters."""

import random
from collections.abc import Mapping

import msgspec
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.model import Availability, Node, NodeId, NodeState, Strategy, Task, TaskId, TaskStatus
from cluster.resources import Resources
from scheduler import Ledger, PendingTask, ReasonKind, explain, group, place
from scheduler.table import Table
from tests.property.scheduler_reference import (
    Reference,
    claims,
    clash,
    is_sensible,
    lacking,
    reference_place,
)
from tests.property.scheduler_worlds import CONSTRAINTS, STATES, World, calm, world

many = settings(max_examples=100, deadline=None)
worlds = st.integers(0, 2**32).map(lambda seed: world(random.Random(seed)))
strategies = st.sampled_from(Strategy)


def after(given: World, placements: Mapping[TaskId, NodeId]) -> Reference:
    """Return the cluster with the waiting tasks bound."""
    state = Reference(given)
    waiting = {task.id: task for task in given.pending}
    for task_id, node_id in placements.items():
        state.bind(waiting[task_id], node_id)
    return state


@many
@given(worlds, strategies)
def test_the_plan_is_the_one_that_looking_at_every_node_for_every_task_gives(
    given: World, strategy: Strategy
) -> None:
    assert given.plan(strategy).placements == reference_place(given, strategy)


@many
@given(st.integers(0, 2**32).map(lambda seed: calm(random.Random(seed))), strategies)
def test_so_it_is_where_whole_classes_find_room(given: World, strategy: Strategy) -> None:
    assert given.plan(strategy).placements == reference_place(given, strategy)


@many
@given(worlds)
def test_i1_no_node_gives_more_than_it_has(given: World) -> None:
    before, now = Reference(given).held, after(given, given.plan().placements).held
    for node in given.nodes:
        new = now[node.id][len(before[node.id]) :]
        for index, (_, spec) in enumerate(new):
            others = [*before[node.id], *new[:index]]
            assert not lacking(node, others, spec)
            held_ports = [claim for _, other in others for claim in claims(other)]
            assert not any(clash(mine, one) for mine in claims(spec) for one in held_ports)


@many
@given(worlds)
def test_i1_a_named_item_has_one_holder_and_everyone_gets_what_they_reserve(given: World) -> None:
    plan = given.plan()
    tasks = {task.id: task for task in given.pending}
    held: set[tuple[NodeId, str]] = set()
    for task_id, node_id in plan.placements.items():
        wanted = given.spec_of(tasks[task_id]).task.reservations.generic.get("gpu", 0)
        names = given.by_id[node_id].description.generic_items.get("gpu", ())
        items = plan.items.get(task_id, {}).get("gpu", ())
        assert len(items) == (wanted if names else 0)
        assert set(items) <= set(names)
        for item in items:
            assert (node_id, item) not in held
            held.add((node_id, item))


@many
@given(worlds)
def test_i6_hard_constraints_hold_where_a_task_is_bound(given: World) -> None:
    plan = given.plan()
    now = after(given, plan.placements)
    for task in given.pending:
        if task.id not in plan.placements:
            continue
        node, spec = given.by_id[plan.placements[task.id]], given.spec_of(task)
        placement = spec.task.placement
        assert task.node_id in ("", node.id)
        assert node.status.state is NodeState.READY
        assert node.spec.availability is Availability.ACTIVE
        assert set(node.spec.reserved_for) <= set(placement.tolerates)
        assert all(CONSTRAINTS[expression](node) for expression in placement.constraints)
        replicas = len([1 for other, _ in now.held[node.id] if other == task.service_id])
        assert not placement.max_replicas_per_node or replicas <= placement.max_replicas_per_node
        for mount in spec.task.container.mounts:
            assert node.id in now.homes[mount.source]
            was_nowhere = mount.source not in Reference(given).homes
            assert (plan.volumes.get(mount.source) == node.id) is was_nowhere


@many
@given(worlds, st.randoms(use_true_random=False), strategies)
def test_i15_the_same_state_gives_the_same_plan(
    given: World, chance: random.Random, strategy: Strategy
) -> None:
    tasks, mixed = list(given.tasks), list(given.nodes)
    chance.shuffle(tasks)
    chance.shuffle(mixed)
    again = World(mixed, given.specs, tasks, given.pending)
    snapshot = given.snapshot()
    assert given.plan(strategy) == again.plan(strategy)
    assert place(snapshot, given.groups()) == place(snapshot, given.groups())
    assert snapshot == given.snapshot(), "a plan leaves the snapshot as it was"


@many
@given(worlds)
def test_each_task_is_placed_or_told_why_it_could_not_be(given: World) -> None:
    plan = given.plan()
    told = [task_id for unplaced in plan.unplaced for task_id in unplaced.task_ids]
    assert sorted([*plan.placements, *told]) == sorted(task.id for task in given.pending)
    now, tasks = after(given, plan.placements), {task.id: task for task in given.pending}
    for unplaced in plan.unplaced:
        assert str(unplaced)
        for task_id in unplaced.task_ids:
            task, spec = tasks[task_id], given.spec_of(tasks[task_id])
            if unplaced.gang:
                assert spec.gang == unplaced.gang
                continue
            asked = [node for node in given.nodes if task.node_id in ("", node.id)]
            if not is_sensible(spec):
                assert unplaced.defects
                continue
            if not any(
                a.service == s.name
                for a in spec.task.placement.affinities
                for s in given.specs.values()
            ):
                kinds = [now.refusals(node, task.service_id) for node in asked]
                assert all(kinds), "a node would still take it"
            if not task.node_id:
                assert sum(counted.node_count for counted in unplaced.counted) == len(asked)


@many
@given(worlds, st.integers(0, 4), strategies)
def test_an_explanation_has_every_reason_and_says_what_place_does(
    given: World, index: int, strategy: Strategy
) -> None:
    service_id = list(given.specs)[index]
    snapshot, demand, spec = given.snapshot(), given.demand(service_id), given.specs[service_id]
    explanation = explain(snapshot, demand, strategy=strategy)
    plan = place(snapshot, group([PendingTask(TaskId("t"), demand)]), strategy=strategy)
    chosen = explanation.chosen
    if not spec.gang:
        assert plan.placements == ({TaskId("t"): chosen.node_id} if chosen else {})
    assert bool(explanation.defects) == (not is_sensible(spec))
    if explanation.defects:
        return
    state = Reference(given)
    assert {verdict.node_id for verdict in explanation.verdicts} == given.by_id.keys()
    total = 1 + len(
        [
            1
            for node in given.nodes
            for other, _ in state.held[node.id]
            if other == service_id and node.status.state is NodeState.READY
        ]
    )
    takers = [verdict.node_id for verdict in explanation.verdicts if verdict.fits]
    ranks = [state.rank(given.by_id[id_], service_id, total, strategy) for id_ in takers]
    assert ranks == sorted(ranks)
    for verdict in explanation.verdicts:
        node = given.by_id[verdict.node_id]
        kinds = {reason.kind for reason in verdict.reasons}
        assert kinds == state.refusals(node, service_id)
        for reason in verdict.reasons:
            if reason.kind is ReasonKind.ROOM:
                short = dict(reason.missing)
                assert not lacking(larger(node, short), state.held[node.id], spec)
                for name, amount in short.items():
                    less = {**short, name: amount - 1}
                    assert lacking(larger(node, less), state.held[node.id], spec)


def larger(node: Node, more: Mapping[str, int]) -> Node:
    """Return the node with so much more to give."""
    capacity = node.description.capacity + Resources(
        cpu_nanos=more.get("cpu_nanos", 0),
        memory_bytes=more.get("memory_bytes", 0),
        generic={"gpu": more.get("gpu", 0)},
    )
    slots = node.spec.task_slots + more.get("task slots", 0) if node.spec.task_slots else 0
    return msgspec.structs.replace(
        node,
        description=msgspec.structs.replace(node.description, capacity=capacity),
        spec=msgspec.structs.replace(node.spec, task_slots=slots),
    )


@many
@given(worlds, st.lists(st.integers(0, 10_000), max_size=40))
def test_the_ledger_forgets_how_it_came_to_know(given: World, moves: list[int]) -> None:
    """However objects came, moved and went before, the last word on each is what counts.

    That goes for the columns too, which are handed on from snapshot to snapshot (I17).
    """
    ledger = Ledger(given.spec_of)
    objects = [*given.nodes, *(task for task in given.tasks if task.id[0] != "f")]
    for move in moves if objects else []:
        thing = objects[move % len(objects)]
        if isinstance(thing, Node):
            if move % 3:
                ledger.apply_node(_redescribed(thing, move))
            else:
                ledger.remove_node(thing.id)
        elif isinstance(thing, Task):
            if move % 5 == 0:
                ledger.remove_task(thing.id)
            else:
                ledger.apply_task(_moved(thing, move) if move % 2 else thing)
        if move % 7 == 0:
            place(ledger.snapshot(), given.groups())  # makes use of the columns
    for task in given.tasks:
        ledger.apply_task(task)
    for node in given.nodes:
        ledger.apply_node(node)
    snapshot, fresh = ledger.snapshot(), given.snapshot()
    assert snapshot.nodes == fresh.nodes
    assert ledger.snapshot() is snapshot
    assert_same_columns(snapshot.table, fresh.table)
    assert place(snapshot, given.groups()).placements == given.plan().placements


def _redescribed(node: Node, move: int) -> Node:
    spec = msgspec.structs.replace(
        node.spec, labels={"zone": "abc"[move % 3]}, volumes=("spool",), task_slots=move % 4
    )
    return msgspec.structs.replace(node, spec=spec)


def _moved(task: Task, move: int) -> Task:
    states = [state for state in STATES if state.value not in ("failed", "rejected")]
    return msgspec.structs.replace(
        task,
        node_id=NodeId(f"n{move % 4}"),
        status=TaskStatus(state=states[move % len(states)]),
    )


def assert_same_columns(one: Table, other: Table) -> None:
    """Compare all that a pass looks at; a dimension that has gone out of use is no difference."""
    assert one.ids == other.ids
    for name in ("slots", "task_count", "is_open", "is_alive"):
        assert np.array_equal(getattr(one, name), getattr(other, name)), name
    for name in ("replicas", "ports", "failures", "repels", "volumes", "images"):
        assert getattr(one, name) == getattr(other, name), name
    for dimension, index in other.dimensions.items():
        mine = one.dimensions[dimension]
        for name in ("capacity", "free", "per_unit"):
            assert np.array_equal(getattr(one, name)[mine], getattr(other, name)[index]), name

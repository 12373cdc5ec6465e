"""Rebalancing: few moves, each allowed, each for something, and an end to it."""

import random

import msgspec
from hypothesis import example, settings
from hypothesis import given as draw
from hypothesis import strategies as st

from cluster.model import ServiceMode, TaskState, TaskStatus
from scheduler import Move, Snapshot, rebalance
from tests.property.scheduler_reference import Reference
from tests.property.scheduler_worlds import World, world

many = settings(max_examples=60, deadline=None)
seeds = st.integers(0, 2**32)


def settled(seed: int) -> World:
    """Return a cluster in which nothing waits, laid out as chance would have it."""
    chance = random.Random(seed)
    drawn = world(chance)
    state = Reference(drawn)
    bound = list(drawn.tasks)
    for task in drawn.pending:
        able = [n for n in drawn.nodes if not state.refusals(n, task.service_id)]
        if able:
            node = chance.choice(able)
            state.bind(task, node.id)
            running = TaskStatus(state=TaskState.RUNNING)
            bound.append(msgspec.structs.replace(task, node_id=node.id, status=running))
    specs = {
        service_id: msgspec.structs.replace(
            spec,
            gang="",
            mode=chance.choice([ServiceMode.REPLICATED] * 4 + [ServiceMode.GLOBAL]),
            task=msgspec.structs.replace(
                spec.task,
                placement=msgspec.structs.replace(spec.task.placement, stays=chance.random() < 0.2),
            ),
        )
        for service_id, spec in drawn.specs.items()
    }
    nodes = [
        msgspec.structs.replace(
            node,
            spec=msgspec.structs.replace(
                node.spec,
                volumes=tuple(sorted(v for v, ids in state.homes.items() if node.id in ids)),
            ),
        )
        for node in drawn.nodes
    ]
    return World(nodes, specs, bound, [])


def made(given: World, moves: tuple[Move, ...]) -> World:
    """Return the cluster after the moves, each of which was allowed when it was made."""
    for move in moves:
        task = next(each for each in given.tasks if each.id == move.task_id)
        spec = given.spec_of(task)
        assert task.node_id == move.source != move.target
        assert not spec.task.placement.stays
        assert spec.mode is ServiceMode.REPLICATED
        assert spec.max_unavailable
        assert move.gain > 0
        others = [each for each in given.tasks if each.id != task.id]
        left = World(given.nodes, given.specs, others, [])
        assert not Reference(left).refusals(given.by_id[move.target], task.service_id)
        there = msgspec.structs.replace(task, node_id=move.target)
        given = World(given.nodes, given.specs, [*others, there], [])
    return given


@many
@draw(seeds, st.integers(0, 5))
@example(4583, 3)  # what is better off elsewhere is on a node that could be emptied
def test_moves_are_few_and_none_breaks_a_rule(seed: int, budget: int) -> None:
    given = settled(seed)
    moves = rebalance(given.snapshot(), budget)
    assert len(moves) <= budget
    assert len({move.task_id for move in moves}) == len(moves)
    made(given, moves)


@many
@draw(seeds)
@example(20073399)  # tasks that must be near each other are on a node that could be emptied
def test_there_is_an_end_to_it(seed: int) -> None:
    given = settled(seed)
    for _ in range(10):
        moves = rebalance(given.snapshot(), 100)
        if not moves:
            return
        given = made(given, moves)
    raise AssertionError("it goes round in circles")


def test_rebalancing_twice_the_same_gives_the_same() -> None:
    given = settled(3)
    assert rebalance(given.snapshot(), 9) == rebalance(given.snapshot(), 9)


def test_an_empty_cluster_has_nothing_to_move() -> None:
    assert rebalance(Snapshot(), 5) == ()


def test_nothing_is_moved_without_a_budget() -> None:
    moved: list[Move] = []
    for seed in range(30):
        assert rebalance(settled(seed).snapshot(), 0) == ()
        moved += rebalance(settled(seed).snapshot(), 9)
    assert moved, "the worlds are dull"

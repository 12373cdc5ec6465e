"""Moves under a leader, whatever is asked: few at a time, within budgets, and an end to it."""

import asyncio
import random

import msgspec
from hypothesis import given as draw
from hypothesis import settings
from hypothesis import strategies as st

from cluster.model import (
    AskedMove,
    Availability,
    DisruptionBudget,
    MoveState,
    NodeId,
    NodeSpec,
    NodeState,
    Task,
    TaskState,
    TaskStatus,
    UpdateConfig,
    UpdateOrder,
)
from manager.reconcilers.rebalancing import AT_ONCE_MAX
from tests.fakes.virtual_time import in_virtual_time
from tests.harness.leading import Behaviour, Leading, leading, obey, service_spec

REPLICAS_MAX = 10


class Watch:
    """Remembers the worst that was seen of a service that was whole when it began."""

    def __init__(self, core: Leading) -> None:
        self.least = len(core.running("web"))
        self.moving = 0
        self._core = core
        core.view.subscribe(self._look)

    def _look(self, _: object) -> None:
        running = {
            t.slot for t in self._core.running("web") if t.desired_state <= TaskState.RUNNING
        }
        self.least = min(self.least, len(running))
        moving = [t for t in self._core.running("web") if t.moving and t.aims_at]
        live = [t for t in moving if t.desired_state is TaskState.RUNNING]
        self.moving = max(self.moving, len(live))


@settings(max_examples=40, deadline=None)
@draw(st.integers(0, 2**32))
def test_moves_are_few_at_a_time_within_the_budget_and_come_to_an_end(seed: int) -> None:
    _moves_end(random.Random(seed))


@in_virtual_time
async def _moves_end(chance: random.Random) -> None:
    order = chance.choice(list(UpdateOrder))
    budget = chance.randint(0, 3)
    replicas = chance.randint(1, REPLICAS_MAX)
    names = [f"n{number}" for number in range(chance.randint(2, 5))]
    async with leading(seed=chance.randrange(1000)) as core:
        for name in names:
            await core.add_node(name)
        await core.until(
            lambda: all(n.status.state is NodeState.READY for n in core.view.nodes.values())
        )
        await core.submit(
            service_spec(
                replicas=replicas,
                update=UpdateConfig(order=order, monitor_seconds=1.0),
                budget=DisruptionBudget(max_unavailable=budget),
            )
        )
        await core.until(lambda: len(core.running("web")) == replicas)
        await core.until(lambda: bool(core.view.rollouts))
        core.behaviour = _behaviour(chance, names, order)
        watch = Watch(core)
        await _ask(core, chance, names)
        if chance.random() < 0.3:
            await _disturb(core, chance, names)
        await core.until(lambda: not _left(core))
        await core.until(lambda: not any(t.moving and t.aims_at for t in core.running("web")))
        await core.until(lambda: len(core.running("web")) == replicas)

        assert watch.moving <= AT_ONCE_MAX
        taken = 0 if order is UpdateOrder.START_FIRST else budget
        assert watch.least >= replicas - taken, (order, budget, replicas)
        await _is_quiet(core)


def _behaviour(chance: random.Random, names: list[str], order: UpdateOrder) -> Behaviour:
    """Return agents of which one, start-first, can start nothing new."""
    bad = chance.choice([*names, ""]) if order is UpdateOrder.START_FIRST else ""
    started: set[str] = set()

    def behave(task: Task) -> TaskStatus | None:
        if task.status.state is TaskState.RUNNING:
            started.add(task.id)
        if task.node_id == bad and task.id not in started and not task.status.state.finished:
            return TaskStatus(state=TaskState.FAILED, error="exit code 1")
        return obey(task)

    return behave


async def _ask(core: Leading, chance: random.Random, names: list[str]) -> None:
    running = core.running("web")
    chosen = chance.sample(running, chance.randint(1, len(running)))
    moves = tuple(
        AskedMove(
            task_id=task.id,
            node_id=NodeId(chance.choice([n for n in names if n != task.node_id])),
            why="beyond",
        )
        for task in chosen
    )
    cluster = core.view.cluster
    assert cluster is not None
    await core.write(msgspec.structs.replace(cluster, moves=moves))
    await core.view.reached(core.state.revision)


async def _disturb(core: Leading, chance: random.Random, names: list[str]) -> None:
    """Close a node while moves are under way."""
    name = NodeId(chance.choice(names))
    await core.set_node(name, NodeSpec(availability=Availability.PAUSE))


def _left(core: Leading) -> list[AskedMove]:
    cluster = core.view.cluster
    assert cluster is not None
    return [move for move in cluster.moves if move.state is not MoveState.GIVEN_UP]


async def _is_quiet(core: Leading) -> None:
    """Require that nothing more is written, though all is looked at again."""
    await asyncio.sleep(35.0)
    revision = (await core.store.list("/")).revision
    await asyncio.sleep(65.0)
    assert (await core.store.list("/")).revision == revision

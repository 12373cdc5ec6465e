"""Assignments: whatever changes, an agent that follows the chain knows its set exactly."""

import asyncio
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import NotFoundError, UnavailableError
from cluster.model import (
    Assignment,
    ManagerId,
    Session,
    SessionId,
    TaskId,
    TaskState,
)
from manager.dispatch.assignments import Assignments, Chain, SpecKey, Update
from manager.dispatch.open_session import OpenSession
from manager.store.interface import LeaseId
from tests.fakes.sites import Site, node_id, service, sites, task
from tests.fakes.virtual_time import in_virtual_time

A, B = TaskState.ASSIGNED, TaskState.RUNNING


class Agent:
    """Applies messages as an agent does, and forgets specs that nothing names."""

    def __init__(self) -> None:
        self.tasks: dict[TaskId, Assignment] = {}
        self.specs: set[SpecKey] = set()
        self.number = 0

    def take(self, update: Update) -> None:
        if update.complete:
            self.tasks.clear()
            self.specs.clear()
        else:
            assert update.applies_to == self.number
        self.number = update.results_in
        new = {(spec.service_id, spec.number) for spec in update.specs}
        assert not new & self.specs, "a spec was sent twice"
        self.specs |= new
        for task_id in update.removed:
            del self.tasks[task_id]
        self.tasks.update((each.task_id, each) for each in update.tasks)
        named = {(each.service_id, each.spec_version) for each in self.tasks.values()}
        assert named <= self.specs, "a spec is missing"
        self.specs &= named


def open_session(site: Site, name: str = "n1") -> OpenSession:
    record = Session(id=SessionId("s"), node_id=node_id(name), manager_id=ManagerId("m"))
    return OpenSession(site.view, record, LeaseId(1), 1.0, 0.0)


@in_virtual_time
async def test_a_node_gets_its_tasks_with_their_specs_and_then_only_what_differs() -> None:
    async with sites() as [site]:
        await site.write(
            *service("web", stack=""),
            task("mine", on="n1", state=A),
            task("also", on="n1", state=B, slot=2),
            task("waits", slot=3),
            task("elsewhere", on="n2", state=A, slot=4),
        )
        assignments = Assignments(site.view)
        stream = assignments.follow(open_session(site))
        first = await anext(stream)
        assert first.complete
        assert {each.task_id: each.state for each in first.tasks} == {"mine": A, "also": B}
        assert [(spec.service_id, spec.number) for spec in first.specs] == [("id-of-web", 1)]

        await site.write(task("waits", slot=3, on="n1", state=A))
        second = await anext(stream)
        assert (second.complete, second.applies_to, second.results_in) == (False, 1, 2)
        assert [each.task_id for each in second.tasks] == ["waits"]
        assert not second.specs, "the agent has it"

        await site.erase(task("mine"))
        assert (await anext(stream)).removed == ("mine",)
        await stream.aclose()
        assignments.close()
        assert not site.view._listeners


@in_virtual_time
async def test_an_agent_is_told_which_generic_resources_are_the_tasks_own() -> None:
    async with sites() as [site]:
        mine = msgspec.structs.replace(task("t", on="n1", state=A), generic_items={"gpu": ("a",)})
        await site.write(*service("web"), mine)
        stream = Assignments(site.view).follow(open_session(site))
        assert [each.generic_items for each in (await anext(stream)).tasks] == [{"gpu": ("a",)}]
        await stream.aclose()


@in_virtual_time
async def test_only_what_the_agent_needs_is_sent() -> None:
    async with sites() as [site]:
        await site.write(*service("web"), task("t", on="n1", state=A))
        stream = Assignments(site.view).follow(open_session(site))
        await anext(stream)
        waiting = asyncio.create_task(anext(stream))
        await site.write(task("t", on="n1", state=TaskState.STARTING))
        await site.write(task("t", on="n1", state=TaskState.RUNNING))
        await site.write(task("other", on="n2", state=A))
        await asyncio.sleep(1)
        assert not waiting.done(), "the agent itself has reported that"

        await site.write(task("t", on="n1", state=TaskState.ORPHANED))
        update = await waiting
        assert [each.state for each in update.tasks] == [TaskState.ORPHANED]
        await stream.aclose()


@in_virtual_time
async def test_a_task_that_is_only_meant_for_a_node_is_not_sent_yet() -> None:
    async with sites() as [site]:
        await site.write(*service("web"), task("t", on="n1", slot=0, state=TaskState.PENDING))
        stream = Assignments(site.view).follow(open_session(site))
        assert (await anext(stream)).tasks == ()
        await site.write(task("t", on="n1", slot=0, state=A))
        assert [each.task_id for each in (await anext(stream)).tasks] == ["t"]
        await stream.aclose()


@in_virtual_time
async def test_what_comes_together_is_sent_together() -> None:
    async with sites() as [site]:
        await site.write(*service("web"))
        stream = Assignments(site.view).follow(open_session(site))
        await anext(stream)
        await site.write(*(task(f"t{n}", on="n1", state=A, slot=n) for n in range(1, 31)))
        await site.write(task("t31", on="n1", state=A, slot=31))
        assert len((await anext(stream)).tasks) == 31, "gathered while nobody read"
        await stream.aclose()


@in_virtual_time
async def test_the_stream_ends_with_its_session() -> None:
    async with sites() as [site]:
        session = open_session(site)
        assignments = Assignments(site.view)
        stream = assignments.follow(session)
        await anext(stream)
        waiting = asyncio.create_task(anext(stream))
        await asyncio.sleep(1)
        session.end(NotFoundError("superseded"))
        with pytest.raises(NotFoundError, match="superseded"):
            await waiting
        assert not assignments._feeds
        session.end(UnavailableError("the first reason counts"))
        assert str(session.ended) == "superseded"


TASK_IDS = st.sampled_from([TaskId(name) for name in "abcde"])
ASSIGNMENTS = st.builds(
    Assignment,
    task_id=TASK_IDS,
    service_id=st.sampled_from(["s1", "s2"]),
    service_name=st.just("web"),
    spec_version=st.integers(1, 2),
    slot=st.just(1),
    node_id=st.just("n"),
    desired_state=st.sampled_from([TaskState.READY, TaskState.RUNNING, TaskState.SHUTDOWN]),
    state=st.sampled_from([A, B, TaskState.FAILED]),
)
SETS = st.lists(ASSIGNMENTS, max_size=5).map(lambda tasks: {each.task_id: each for each in tasks})


@given(st.lists(SETS, min_size=1, max_size=6))
def test_an_agent_that_follows_the_chain_knows_its_set(
    steps: list[dict[TaskId, Assignment]],
) -> None:
    def find(key: SpecKey) -> object:
        return service_version(key)

    chain, agent = Chain(), Agent()
    agent.take(chain.begin(steps[0], find))  # type: ignore[arg-type]
    for before, now in pairwise(steps):
        changed = {task_id: now.get(task_id) for task_id in {*before, *now}}
        update = chain.go_on(changed, find)  # type: ignore[arg-type]
        if update is not None:
            agent.take(update)
        assert agent.tasks.keys() == now.keys()
        for task_id, wanted in now.items():
            known = agent.tasks[task_id]
            assert known.desired_state is wanted.desired_state
            assert (known.service_id, known.spec_version) == (
                wanted.service_id,
                wanted.spec_version,
            )
            assert known.state.finished == wanted.state.finished


def service_version(key: SpecKey) -> object:
    _, version = service("web")
    return type(version)(service_id=key[0], number=key[1], spec=version.spec)

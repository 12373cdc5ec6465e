"""Reports: stored before they are answered, merged, only forward, and only by the task's node."""

import asyncio

import pytest

from cluster.errors import UnavailableError
from cluster.model import TaskId, TaskState, TaskStatus
from manager.dispatch.statuses import IN_FLIGHT_MAX, TASKS_TOGETHER_MAX, Report, Statuses
from tests.fakes.sites import Site, node_id, service, sites, task, until
from tests.fakes.virtual_time import in_virtual_time

N1 = node_id("n1")


def report(task_id: str, state: TaskState, message: str = "") -> Report:
    return Report(TaskId(task_id), TaskStatus(state=state, at=1.0, message=message))


def state(site: Site, task_id: str) -> TaskState:
    return site.view.tasks[TaskId(task_id)].status.state


async def with_tasks(site: Site, count: int) -> Statuses:
    await site.write(*service("web"))
    for start in range(0, count, 100):
        await site.write(
            *(
                task(f"t{number}", on="n1", state=TaskState.ASSIGNED, slot=number + 1)
                for number in range(start, min(count, start + 100))
            )
        )
    return Statuses(site.store, site.view, site.journal)


@in_virtual_time
async def test_a_report_is_answered_once_it_is_stored() -> None:
    async with sites() as [site]:
        statuses = await with_tasks(site, 1)
        site.store.gate.clear()
        answer = asyncio.create_task(statuses.report(N1, [report("t0", TaskState.RUNNING)]))
        await asyncio.sleep(5)
        assert not answer.done()
        assert state(site, "t0") is TaskState.ASSIGNED
        site.store.gate.set()
        await answer
        assert state(site, "t0") is TaskState.RUNNING
        assert b'"running"' in site.stored()["/shoal/v1/tasks/t0"]


@in_virtual_time
async def test_the_first_is_written_at_once_and_what_comes_meanwhile_together() -> None:
    async with sites() as [site]:
        statuses = await with_tasks(site, 350)
        site.store.gate.clear()
        answers = [
            asyncio.create_task(statuses.report(N1, [report(f"t{n}", TaskState.RUNNING)]))
            for n in range(350)
        ]
        await asyncio.sleep(1)
        assert [len(guards) for guards, _ in site.store.commits] == [1] * IN_FLIGHT_MAX
        site.store.gate.set()
        await asyncio.gather(*answers)
        sizes = [len(guards) for guards, _ in site.store.commits[IN_FLIGHT_MAX:]]
        assert sum(sizes) == 350 - IN_FLIGHT_MAX
        assert len(sizes) == 4
        assert max(sizes) <= TASKS_TOGETHER_MAX
        assert all(state(site, f"t{n}") is TaskState.RUNNING for n in range(350))


@in_virtual_time
async def test_a_later_report_never_overtakes_and_never_goes_back() -> None:
    async with sites() as [site]:
        statuses = await with_tasks(site, 1)
        site.store.gate.clear()
        states = [
            TaskState.PREPARING,
            TaskState.RUNNING,
            TaskState.STARTING,  # late
            TaskState.FAILED,
            TaskState.RUNNING,  # late
        ]
        answers = []
        for each in states:
            answers.append(asyncio.create_task(statuses.report(N1, [report("t0", each)])))
            await asyncio.sleep(0.1)
        assert len(site.store.commits) == 1, "two transactions of one task at once"
        site.store.gate.set()
        await asyncio.gather(*answers)
        assert state(site, "t0") is TaskState.FAILED
        assert len(site.store.commits) == 2


@in_virtual_time
async def test_a_report_that_says_what_is_being_stored_waits_for_that() -> None:
    async with sites() as [site]:
        statuses = await with_tasks(site, 1)
        site.store.gate.clear()
        first = asyncio.create_task(statuses.report(N1, [report("t0", TaskState.RUNNING)]))
        await asyncio.sleep(0.1)
        again = asyncio.create_task(statuses.report(N1, [report("t0", TaskState.RUNNING)]))
        await asyncio.sleep(0.1)
        assert not again.done(), "answered though it is not stored"
        site.store.gate.set()
        await asyncio.gather(first, again)
        assert len(site.store.commits) == 1


@in_virtual_time
async def test_what_is_no_news_or_not_the_node_s_is_passed_over() -> None:
    async with sites() as [site]:
        statuses = await with_tasks(site, 1)
        await site.write(
            task("alien", on="n2", state=TaskState.ASSIGNED),
            task("meant", on="n1", slot=0, state=TaskState.PENDING),
            task("lost", on="n1", state=TaskState.ORPHANED),
        )
        await statuses.report(
            N1,
            [
                report("t0", TaskState.ASSIGNED),
                report("t0", TaskState.ORPHANED),
                report("t0", TaskState.REMOVE),
                report("alien", TaskState.FAILED),
                report("meant", TaskState.RUNNING),
                report("lost", TaskState.RUNNING),
                report("gone", TaskState.RUNNING),
            ],
        )
        assert not site.store.commits


@in_virtual_time
async def test_a_report_keeps_what_the_leader_wrote_meanwhile() -> None:
    async with sites() as [site]:
        statuses = await with_tasks(site, 2)
        await site.lag()
        await site.write(task("t0", on="n1", state=TaskState.ASSIGNED, desired=TaskState.SHUTDOWN))
        await statuses.report(
            N1, [report("t0", TaskState.RUNNING), report("t1", TaskState.RUNNING)]
        )
        written = site.view.tasks[TaskId("t0")]
        assert written.desired_state is TaskState.SHUTDOWN
        assert written.status.state is TaskState.RUNNING
        assert state(site, "t1") is TaskState.RUNNING


@in_virtual_time
async def test_a_task_that_was_orphaned_or_removed_meanwhile_stays_so() -> None:
    async with sites() as [site]:
        statuses = await with_tasks(site, 2)
        await site.lag()
        await site.write(task("t0", on="n1", state=TaskState.ORPHANED))
        await site.erase(task("t1"))
        await statuses.report(
            N1, [report("t0", TaskState.RUNNING), report("t1", TaskState.RUNNING)]
        )
        assert state(site, "t0") is TaskState.ORPHANED
        assert "/shoal/v1/tasks/t1" not in site.stored()


@in_virtual_time
async def test_without_an_answer_of_the_store_the_agent_gets_none_and_reports_again() -> None:
    async with sites() as [site]:
        statuses = await with_tasks(site, 1)
        site.store.answers_lost = 1
        with pytest.raises(UnavailableError):
            await statuses.report(N1, [report("t0", TaskState.RUNNING)])
        await statuses.report(N1, [report("t0", TaskState.RUNNING)])
        assert state(site, "t0") is TaskState.RUNNING


@in_virtual_time
async def test_who_has_left_does_not_keep_a_report_from_being_stored() -> None:
    async with sites() as [site]:
        statuses = await with_tasks(site, 1)
        site.store.gate.clear()
        answer = asyncio.create_task(statuses.report(N1, [report("t0", TaskState.RUNNING)]))
        await asyncio.sleep(0.1)
        answer.cancel()
        site.store.gate.set()
        await until(lambda: state(site, "t0") is TaskState.RUNNING)


@in_virtual_time
async def test_a_stop_answers_nobody_as_if_it_were_stored() -> None:
    async with sites() as [site]:
        statuses = await with_tasks(site, 8)
        site.store.gate.clear()
        answers = [
            asyncio.create_task(statuses.report(N1, [report(f"t{n}", TaskState.RUNNING)]))
            for n in range(8)
        ]
        await asyncio.sleep(0.1)
        await statuses.close()
        outcomes = await asyncio.gather(*answers, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [UnavailableError] * 8
        with pytest.raises(UnavailableError):
            await statuses.report(N1, [report("t0", TaskState.RUNNING)])


@in_virtual_time
async def test_texts_are_cut_and_times_are_numbers() -> None:
    async with sites() as [site]:
        statuses = await with_tasks(site, 1)
        bad = TaskStatus(state=TaskState.FAILED, at=float("nan"), error="x" * 100_000)
        await statuses.report(N1, [Report(TaskId("t0"), bad)])
        stored = site.view.tasks[TaskId("t0")].status
        assert stored.at == 0.0
        assert len(stored.error) == 1_000

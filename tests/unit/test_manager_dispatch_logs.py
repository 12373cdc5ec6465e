"""Logs on their way: bounded, to the one who asked, from the one who was asked."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from cluster.errors import ForbiddenError, InvalidError, NotFoundError, UnavailableError
from cluster.model import Manager, ManagerId, Session, SessionId, TaskId, TaskState
from manager.control.log_reading import LogChunk
from manager.control.logs import Logs
from manager.dispatch.channel import Channel
from manager.dispatch.log_broker import (
    ANSWER_SECONDS,
    BATCHES_MAX,
    LogBatch,
    LogBroker,
    LogEntry,
    LogStream,
)
from manager.dispatch.open_session import HeardUsage, LogsAsked, LogsWanted, OpenSession
from tests.fakes.desks import Desk, beat, desks
from tests.fakes.sites import Site, node, node_id, service, task, until
from tests.fakes.virtual_time import in_virtual_time

ALL = LogsAsked()
FOLLOW = LogsAsked(follow=True)


def line(task_id: str, text: str, at: float = 1.0) -> LogEntry:
    return LogEntry(TaskId(task_id), LogStream.STDOUT, at, text.encode())


class Peers:
    """One other manager, whose logs are what a test says."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, tuple[TaskId, ...], LogsAsked]] = []
        self.batches: list[LogBatch] = []

    async def usage(self, manager: Manager) -> Sequence[HeardUsage]:
        return ()

    async def logs(
        self, manager: Manager, task_ids: Sequence[TaskId], asked: LogsAsked
    ) -> AsyncGenerator[LogBatch, None]:
        self.asked.append((manager.address, tuple(task_ids), asked))
        for batch in self.batches:
            yield batch


class Room:
    """A manager with an agent on n1, and somebody who reads logs."""

    def __init__(self, desk: Desk, session: OpenSession) -> None:
        self.desk = desk
        self.session = session
        self.broker = LogBroker(desk.sessions, desk.site.ids)
        self.peers = Peers()
        access = desk.site.access
        self.logs = Logs(access, self.broker, self.peers, ManagerId("m0"))
        self._messages = session.messages()

    @property
    def site(self) -> Site:
        return self.desk.site

    async def wish(self) -> LogsWanted:
        """Return the next wish that the agent hears."""
        async with asyncio.timeout(10):
            while not (message := await anext(self._messages)).logs:
                pass
        [wish] = message.logs
        return wish

    async def publish(self, wish: LogsWanted, *entries: LogEntry, error: str = "") -> None:
        await self.broker.publish(self.session.id, wish.subscription_id, entries, error)

    def finish(self, wish: LogsWanted) -> None:
        self.broker.finished(self.session.id, wish.subscription_id)


@asynccontextmanager
async def rooms() -> AsyncIterator[Room]:
    async with desks() as [desk]:
        session = await desk.open()
        beating = asyncio.create_task(beat(desk, session, 3_600))
        await desk.site.write(
            *service("web"),
            node("n1"),
            task("t1", on="n1", state=TaskState.RUNNING),
            task("t2", on="n1", slot=2, state=TaskState.RUNNING),
        )
        try:
            yield Room(desk, session)
        finally:
            beating.cancel()


def collect(stream: AsyncGenerator[LogChunk, None]) -> "asyncio.Task[list[LogChunk]]":
    async def read() -> list[LogChunk]:
        return [chunk async for chunk in stream]

    return asyncio.create_task(read())


def lines(chunks: Sequence[LogChunk]) -> list[str]:
    return [entry.line.decode() for chunk in chunks for entry in chunk.entries]


def warnings(chunks: Sequence[LogChunk]) -> list[str]:
    return [text for chunk in chunks for text in chunk.warnings]


@in_virtual_time
async def test_a_log_is_asked_of_the_agent_and_ends_when_all_is_sent() -> None:
    async with rooms() as room:
        reading = collect(room.logs.stream("web", (), LogsAsked(tail=2), local=False))
        wish = await room.wish()
        assert (set(wish.task_ids), wish.asked.tail) == ({"t1", "t2"}, 2)
        await room.publish(wish, line("t1", "one"), line("t2", "two"))
        await room.publish(wish, error="t2 has more, but not here")
        room.finish(wish)
        chunks = await reading
        assert {each.task.id for each in chunks[0].tasks} == {"t1", "t2"}
        assert lines(chunks) == ["one", "two"]
        assert warnings(chunks) == ["node n1: t2 has more, but not here"]
        assert (await room.wish()).cancelled


@in_virtual_time
async def test_only_the_agent_that_was_asked_may_send_and_only_what_was_asked() -> None:
    async with rooms() as room:
        reading = collect(room.logs.stream("", ["t1"], ALL, local=False))
        wish = await room.wish()
        other = await room.desk.open("n2")
        with pytest.raises(ForbiddenError):
            await room.broker.publish(other.id, wish.subscription_id, [line("t1", "x")], "")
        with pytest.raises(ForbiddenError):
            await room.publish(wish, line("t2", "x"))
        with pytest.raises(NotFoundError):
            await room.broker.publish(room.session.id, "none", [], "")
        room.finish(wish)
        assert lines(await reading) == []


@in_virtual_time
async def test_a_slow_reader_holds_the_agent_up_and_a_gone_one_lets_it_go() -> None:
    async with rooms() as room:
        stream = room.broker.read(node_id("n1"), [TaskId("t1")], FOLLOW)
        first = asyncio.create_task(anext(stream))
        wish = await room.wish()
        sent = 0

        async def send() -> None:
            nonlocal sent
            while True:
                await room.publish(wish, line("t1", str(sent)))
                sent += 1

        sending = asyncio.create_task(send())
        await first
        await asyncio.sleep(5)
        assert sent <= BATCHES_MAX + 1
        assert not sending.done()
        await stream.aclose()
        with pytest.raises(NotFoundError):
            await sending


@in_virtual_time
async def test_an_agent_that_does_not_answer_is_not_waited_for() -> None:
    async with rooms() as room:
        start = asyncio.get_running_loop().time()
        chunks = await collect(room.logs.stream("", ["t1"], ALL, local=False))
        assert "did not answer" in warnings(chunks)[0]
        assert asyncio.get_running_loop().time() - start == pytest.approx(ANSWER_SECONDS, abs=0.5)


@in_virtual_time
async def test_following_goes_on_after_the_agent_was_away_without_repeating_itself() -> None:
    async with rooms() as room:
        stream = room.logs.stream("web", (), LogsAsked(follow=True, tail=1), local=False)
        chunks: list[LogChunk] = []

        async def read() -> None:
            async for chunk in stream:
                chunks.append(chunk)  # noqa: PERF401 - looked at meanwhile

        reading = asyncio.create_task(read())
        wish = await room.wish()
        await room.publish(wish, line("t1", "a", 10.0), line("t2", "b", 11.0))
        await until(lambda: lines(chunks) == ["a", "b"])

        room.desk.sessions.ended(room.session)
        again = Room(room.desk, await room.desk.open())
        again.broker = room.broker
        wish = await again.wish()
        assert wish.asked == LogsAsked(follow=True, tail=-1, since=10.0)
        await again.publish(
            wish, line("t1", "a", 10.0), line("t2", "b", 11.0), line("t1", "c", 12.0)
        )
        await until(lambda: lines(chunks)[-1] == "c")
        assert lines(chunks) == ["a", "b", "c"]
        assert "went away" in warnings(chunks)[0]
        reading.cancel()


@in_virtual_time
async def test_following_a_service_takes_in_the_tasks_that_it_gets() -> None:
    async with rooms() as room:
        reading = collect(room.logs.stream("web", (), FOLLOW, local=False))
        await room.wish()
        await room.site.write(task("t3", on="n1", slot=3, state=TaskState.PENDING))
        await room.site.write(task("t3", on="n1", slot=3, state=TaskState.ASSIGNED))
        wish = await room.wish()
        assert wish.task_ids == ("t3",)
        assert wish.asked == LogsAsked(follow=True)
        reading.cancel()


@in_virtual_time
async def test_a_log_elsewhere_comes_by_way_of_the_manager_that_has_the_session() -> None:
    async with rooms() as room:
        await room.site.write(
            node("n2"),
            task("far", on="n2", slot=3, state=TaskState.RUNNING),
            Manager(id=ManagerId("m9"), address="m9:1"),
            Session(id=SessionId("s9"), node_id=node_id("n2"), manager_id=ManagerId("m9")),
        )
        room.peers.batches = [LogBatch((line("far", "hello"),))]
        chunks = await collect(room.logs.stream("", ["far"], ALL, local=False))
        assert lines(chunks) == ["hello"]
        assert room.peers.asked == [("m9:1", ("far",), ALL)]

        with pytest.raises(UnavailableError, match="no session here"):
            await collect(room.logs.stream("", ["far"], ALL, local=True))


@in_virtual_time
async def test_what_cannot_be_read_is_said() -> None:
    async with rooms() as room:
        await room.site.write(task("waits", slot=9), task("dark", on="n9", state=TaskState.RUNNING))
        chunks = await collect(room.logs.stream("", ["waits", "dark"], ALL, local=False))
        told = warnings(chunks)
        assert "not placed on a node yet: web.9 (waits)" in told
        assert any("has no session" in text for text in told)
        for service_name, tasks in (("", ()), ("web", ["t1"])):
            with pytest.raises(InvalidError):
                await collect(room.logs.stream(service_name, tasks, ALL, local=False))


@in_virtual_time
async def test_nothing_is_left_when_a_reader_leaves() -> None:
    async with rooms() as room:
        listeners = len(room.site.view._listeners)
        reading = collect(room.logs.stream("web", (), FOLLOW, local=False))
        await room.wish()
        reading.cancel()
        await until(lambda: not room.broker._open)
        assert len(room.site.view._listeners) == listeners
        assert (await room.wish()).cancelled


@in_virtual_time
async def test_a_channel_keeps_order_and_bounds_for_many_writers() -> None:
    channel: Channel[tuple[int, int]] = Channel(3)

    async def write(who: int) -> None:
        for number in range(50):
            assert await channel.put((who, number))

    writers = [asyncio.create_task(write(who)) for who in range(4)]
    got = []
    reader = channel.read()
    for _ in range(200):
        got.append(await anext(reader))
        assert len(channel._values) <= 3
    await asyncio.gather(*writers)
    for who in range(4):
        assert [number for writer, number in got if writer == who] == list(range(50))
    channel.end(UnavailableError("over"))
    assert not await channel.put((0, 0))
    with pytest.raises(UnavailableError, match="over"):
        await anext(reader)

"""The view: a snapshot, then every change; what we wrote ourselves is not undone by its echo."""

import asyncio
import random

from hypothesis import given
from hypothesis import strategies as st

from cluster.model import Node, NodeId, Service, ServiceId, ServiceVersion, Task, TaskId
from manager import records
from manager.store import keys
from manager.store.interface import (
    Changed,
    Delete,
    KeyValue,
    Listing,
    Put,
    Removed,
    WatchBatch,
)
from manager.view import Batch, View
from tests.harness.leading import service_spec


def task(name: str, node: str = "", failures: int = 0) -> Task:
    return Task(
        id=TaskId(name),
        service_id=ServiceId("s"),
        spec_version=1,
        node_id=NodeId(node),
        failures=failures,
    )


def item(value: Task | Service, revision: int) -> KeyValue:
    return KeyValue(records.key_of(value), records.encode(value), revision, revision)


def test_an_echo_of_what_we_wrote_changes_nothing() -> None:
    view = View()
    view.listed(Listing(1, []))
    heard: list[Batch] = []
    view.subscribe(heard.append)
    view.committed(2, [Put(keys.task(TaskId("a")), records.encode(task("a")))])
    view.committed(3, [Delete(keys.task(TaskId("a")))])
    view.watched(WatchBatch(2, [Changed(item(task("a"), 2))]))
    view.watched(WatchBatch(3, [Removed(keys.task(TaskId("a")), 3)]))
    assert not view.tasks
    assert len(heard) == 2


def test_a_listing_from_before_our_write_does_not_undo_it() -> None:
    view = View()
    view.listed(Listing(1, []))
    view.committed(5, [Put(keys.task(TaskId("new")), records.encode(task("new")))])
    view.listed(Listing(4, [item(task("other"), 4)]))
    assert set(view.tasks) == {"new", "other"}
    view.listed(Listing(6, [item(task("other"), 4)]))
    assert set(view.tasks) == {"other"}


def test_a_store_that_was_restored_from_a_backup_is_taken_as_it_is() -> None:
    view = View()
    kept, changed, later = task("kept"), task("changed", failures=2), task("later", "n1")
    view.listed(Listing(5, [item(kept, 2), item(task("changed"), 3), item(task("gone"), 5)]))
    view.watched(WatchBatch(9, [Changed(item(changed, 8)), Changed(item(later, 9))]))
    led = KeyValue(keys.LEADER, b"m1", create_revision=10, mod_revision=10)
    view.watched(WatchBatch(10, [Removed(keys.task(TaskId("gone")), 10), Changed(led)]))
    view.committed(11, [Delete(keys.task(TaskId("kept")))])
    heard: list[Batch] = []
    view.subscribe(heard.append)
    backup = Listing(6, [item(kept, 2), item(task("changed"), 3), item(task("gone"), 5)])
    view.listed(backup)
    assert view.revision == 6
    assert view.leader is None
    assert {t.id: (t.version, t.failures) for t in view.tasks.values()} == {
        "kept": (2, 0),
        "changed": (3, 0),
        "gone": (5, 0),
    }
    assert not list(view.tasks_on_node(NodeId("n1")))
    (batch,) = heard
    told = {change.either.version: (change.old, change.new) for change in batch.changes}
    assert told.keys() == {2, 3, 5, 9}
    assert told[9][1] is None
    for name in ("changed", "kept"):
        view.watched(WatchBatch(7, [Changed(item(task(name, failures=7), 7))]))
        assert view.tasks[TaskId(name)].failures == 7, "and it goes on from there"


def test_an_answer_that_comes_after_the_watch_brings_nothing_back() -> None:
    view = View()
    view.listed(Listing(1, []))
    key = keys.task(TaskId("a"))
    view.watched(WatchBatch(2, [Changed(item(task("a"), 2))]))
    view.watched(WatchBatch(3, [Removed(key, 3)]))
    view.committed(2, [Put(key, records.encode(task("a")))])
    view.learned({key: item(task("a"), 2)}, 2)
    assert not view.tasks


async def is_whole(view: View) -> bool:
    waiting = asyncio.create_task(view.whole())
    await asyncio.sleep(0)
    waiting.cancel()
    return waiting.done()


async def test_what_is_known_ahead_of_the_watch_may_lack_its_causes_unless_it_is_our_own() -> None:
    view = View()
    view.listed(Listing(1, []))
    own = [Put(keys.task(TaskId("own")), records.encode(task("own")))]
    view.committed(3, own)
    assert await is_whole(view)

    view.learned({keys.task(TaskId("a")): item(task("a"), 5), keys.task(TaskId("b")): None}, 9)
    assert not await is_whole(view)
    view.watched(WatchBatch(4, []))
    assert not await is_whole(view)
    view.watched(WatchBatch(5, []))
    assert await is_whole(view)

    view.committed(7, own, by_operator=True)
    assert not await is_whole(view)
    view.listed(Listing(7, []))
    assert await is_whole(view)


async def test_nothing_is_waited_for_that_a_restored_store_will_not_bring() -> None:
    view = View()
    view.listed(Listing(5, []))
    view.learned({keys.task(TaskId("a")): item(task("a"), 9)}, 9)
    view.listed(Listing(2, []))
    assert await is_whole(view)


def test_indexes_follow_their_objects() -> None:
    view = View()
    view.listed(Listing(1, [item(task("a", "n1"), 1)]))
    view.watched(WatchBatch(2, [Changed(item(task("a", "n2"), 2))]))
    assert not list(view.tasks_on_node(NodeId("n1")))
    assert [t.id for t in view.tasks_on_node(NodeId("n2"))] == ["a"]
    service = Service(id=ServiceId("s"), spec=service_spec("web"))
    renamed = Service(id=ServiceId("s"), spec=service_spec("api"))
    view.watched(WatchBatch(3, [Changed(item(service, 3))]))
    view.watched(WatchBatch(4, [Changed(item(renamed, 4))]))
    assert view.service_by_name("web") is None
    assert view.service_by_name("api") is not None
    view.watched(WatchBatch(5, [Removed(records.key_of(service), 5)]))
    assert view.service_by_name("api") is None


NAMES = st.sampled_from("abcd")
STEPS = st.lists(st.tuples(NAMES, st.booleans(), st.booleans(), st.booleans()), max_size=30)


@given(steps=STEPS, seed=st.integers(0, 1000))
def test_any_mix_of_own_writes_watch_and_relists_ends_as_the_store(
    steps: list[tuple[str, bool, bool, bool]], seed: int
) -> None:
    """The store is a dictionary here; its watch and its answers to commits race each other."""
    view, truth, source = View(), {}, random.Random(seed)
    unheard: list[WatchBatch] = []
    unanswered: list[tuple[int, Put | Delete]] = []
    history: list[Listing] = [Listing(1, [])]
    view.listed(history[0])
    diffs: dict[str, int] = {}

    def note(batch: Batch) -> None:
        for change in batch.changes:
            diffs[records.key_of(change.either)] = change.new.version if change.new else 0

    view.subscribe(note)
    for revision, (name, is_put, is_own, relists) in enumerate(steps, start=2):
        value = task(name, node=source.choice("xy"), failures=revision)
        key = records.key_of(value)
        if is_put:
            truth[key] = item(value, revision)
            unheard.append(WatchBatch(revision, [Changed(truth[key])]))
            write: Put | Delete = Put(key, records.encode(value))
        elif truth.pop(key, None):
            unheard.append(WatchBatch(revision, [Removed(key, revision)]))
            write = Delete(key)
        else:
            continue
        history.append(Listing(revision, list(truth.values())))
        if is_own:
            unanswered.append((revision, write))
        while unanswered and source.random() < 0.3:
            answered, own = unanswered.pop(source.randrange(len(unanswered)))
            view.committed(answered, [own])
        while unheard and source.random() < 0.4:
            view.watched(unheard.pop(0))
        if relists:
            view.listed(history[-1])
            unheard = [batch for batch in unheard if batch.revision > history[-1].revision]
    for batch in unheard:
        view.watched(batch)
    for answered, own in unanswered:
        view.committed(answered, [own])
    assert {records.key_of(t): t.version for t in view.tasks.values()} == {
        key: kv.mod_revision for key, kv in truth.items()
    }
    assert {key: version for key, version in diffs.items() if version} == {
        key: kv.mod_revision for key, kv in truth.items()
    }
    for node in "xy":
        on_node = {t.id for t in view.tasks_on_node(NodeId(node))}
        assert on_node == {t.id for t in view.tasks.values() if t.node_id == node}


def test_nothing_that_is_done_to_a_fork_is_seen_in_what_it_was_made_from() -> None:
    view = View()
    service = Service(id=ServiceId("s"), spec=service_spec())
    version = ServiceVersion(service_id=ServiceId("s"), number=1, spec=service_spec())
    view.supposed(1, [service, version, task("a", "n"), Node(id=NodeId("n"))], ())
    before = {name: _whole(value) for name, value in vars(view).items()}
    fork = view.fork()
    assert {name: _whole(value) for name, value in vars(fork).items()} == before
    later = ServiceVersion(service_id=ServiceId("s"), number=2, spec=service_spec())
    fork.supposed(2, [later, task("b", "n"), task("a", "m", 1)], [version, Node(id=NodeId("n"))])
    assert fork.versions_of_service(ServiceId("s")).keys() == {2}
    assert {name: _whole(value) for name, value in vars(view).items()} == before


def _whole(value: object) -> object:
    return {key: _whole(part) for key, part in value.items()} if isinstance(value, dict) else value

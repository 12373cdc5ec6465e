"""The agent's small parts: what it last saw, what it has to tell, whom it talks to, who it is."""

import asyncio
import random
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from agent import host
from agent.assignments import AssignmentSet, Complete, GapError, Incremental
from agent.identity import CLUSTER_FILE, NODE_FILE, IdentityFiles
from agent.managers import PROMPT_SECONDS_MAX, WAIT_SECONDS_MAX, Managers
from agent.observed import Observed
from agent.outbox import REPORTS_MAX, TEXT_CHARACTERS_MAX, Outbox
from agent.runtime.interface import Container, ContainerId, ContainerState
from agent.settings import AgentSettings
from cluster import settings
from cluster.errors import InvalidError
from cluster.ids import IdSource
from cluster.model import (
    Assignment,
    ClusterId,
    ContainerSpec,
    NodeId,
    ServiceId,
    ServiceSpec,
    ServiceVersion,
    TaskId,
    TaskSpec,
    TaskState,
    TaskStatus,
)
from cluster.resources import Resources
from tests.fakes.runtime import INFO

# --- Observed ---------------------------------------------------------------------------------

CREATED = Container(
    id=ContainerId("c1"),
    name="web.1.t1",
    task_id=TaskId("t1"),
    service_id=ServiceId("s1"),
    spec_version=1,
    state=ContainerState.CREATED,
)
ALIVE = replace(CREATED, state=ContainerState.RUNNING)
DEAD = replace(CREATED, state=ContainerState.EXITED, exit_code=1)


def test_the_look_that_began_later_stands() -> None:
    observed = Observed()
    early, late = observed.begin(), observed.begin()

    assert observed.note(late, DEAD)
    assert not observed.note(early, ALIVE)

    assert observed.get(DEAD.id) == DEAD


def test_only_news_is_news() -> None:
    observed = Observed()

    assert observed.note(observed.begin(), ALIVE)
    assert not observed.note(observed.begin(), ALIVE)
    assert not observed.note_all(observed.begin(), [ALIVE])
    assert observed.note_gone(observed.begin(), ALIVE.id)
    assert not observed.note_gone(observed.begin(), ALIVE.id)


def test_a_listing_removes_what_it_does_not_hold() -> None:
    observed = Observed()
    observed.note(observed.begin(), ALIVE)

    assert observed.note_all(observed.begin(), [])

    assert list(observed.containers) == []


def test_a_listing_that_began_before_a_container_was_made_does_not_remove_it() -> None:
    observed = Observed()
    listing = observed.begin()
    observed.note(observed.begin(), ALIVE)

    assert not observed.note_all(listing, [])

    assert list(observed.containers) == [ALIVE]


def test_a_late_look_does_not_bring_a_removed_container_back() -> None:
    observed = Observed()
    observed.note(observed.begin(), ALIVE)
    look = observed.begin()
    observed.note_all(observed.begin(), [])

    assert not observed.note(look, ALIVE)

    assert list(observed.containers) == []


def test_what_has_run_is_never_again_what_has_not() -> None:
    observed = Observed()
    observed.note(observed.begin(), ALIVE)

    assert not observed.note(observed.begin(), CREATED)

    assert observed.get(ALIVE.id) == ALIVE


def test_tombstones_do_not_pile_up() -> None:
    observed = Observed()
    for number in range(100):
        container_id = ContainerId(f"c{number}")
        observed.note(observed.begin(), replace(ALIVE, id=container_id))
        observed.note_gone(observed.begin(), container_id)
    observed.note_all(observed.begin(), [])

    assert observed._seen == {}


# --- Outbox -----------------------------------------------------------------------------------


def status(state: TaskState, **fields: object) -> TaskStatus:
    return TaskStatus(state=state, **fields)  # type: ignore[arg-type]


T1, T2 = TaskId("t1"), TaskId("t2")


async def test_only_the_furthest_report_of_a_task_is_kept() -> None:
    outbox = Outbox()
    assert outbox.report(T1, status(TaskState.ACCEPTED))
    assert outbox.report(T1, status(TaskState.RUNNING))
    assert not outbox.report(T1, status(TaskState.PREPARING))

    assert await outbox.batch() == {T1: status(TaskState.RUNNING)}


async def test_a_report_stays_until_it_is_acknowledged() -> None:
    outbox = Outbox()
    outbox.report(T1, status(TaskState.RUNNING))

    assert await outbox.batch() == await outbox.batch()
    outbox.acknowledge(await outbox.batch())

    assert outbox.unsent == {}
    assert outbox.known == {T1: status(TaskState.RUNNING)}


async def test_what_happens_while_a_report_is_on_its_way_is_not_acknowledged_with_it() -> None:
    outbox = Outbox()
    outbox.report(T1, status(TaskState.RUNNING))
    sent = await outbox.batch()
    outbox.report(T1, status(TaskState.FAILED))

    outbox.acknowledge(sent)

    assert await outbox.batch() == {T1: status(TaskState.FAILED)}


async def test_a_finished_task_stays_finished() -> None:
    outbox = Outbox()
    outbox.report(T1, status(TaskState.COMPLETE))

    assert not outbox.report(T1, status(TaskState.FAILED))


async def test_a_batch_waits_for_something_to_report() -> None:
    outbox = Outbox()
    batch = asyncio.create_task(outbox.batch())
    await asyncio.sleep(0)
    assert not batch.done()

    outbox.report(T1, status(TaskState.RUNNING))

    assert set(await batch) == {T1}


async def test_batches_are_bounded_and_oldest_first() -> None:
    outbox = Outbox()
    tasks = [TaskId(f"t{number}") for number in range(REPORTS_MAX + 1)]
    for task_id in tasks:
        outbox.report(task_id, status(TaskState.RUNNING))

    first = await outbox.batch()
    outbox.acknowledge(first)

    assert list(first) == tasks[:REPORTS_MAX]
    assert list(await outbox.batch()) == tasks[REPORTS_MAX:]


async def test_tasks_that_are_not_ours_any_more_are_forgotten() -> None:
    outbox = Outbox()
    outbox.report(T1, status(TaskState.RUNNING))
    outbox.report(T2, status(TaskState.RUNNING))

    outbox.forget_all_but([T2])

    assert set(outbox.known) == set(outbox.unsent) == {T2}


async def test_a_report_can_be_sent_again() -> None:
    outbox = Outbox()
    outbox.report(T1, status(TaskState.RUNNING))
    outbox.acknowledge(await outbox.batch())

    outbox.renew(T1)
    outbox.renew(T2)

    assert await outbox.batch() == {T1: status(TaskState.RUNNING)}


async def test_long_texts_are_cut() -> None:
    outbox = Outbox()
    outbox.report(T1, status(TaskState.FAILED, error="e" * 10_000, exit_code=3))

    (sent,) = (await outbox.batch()).values()

    assert len(sent.error) == TEXT_CHARACTERS_MAX
    assert (sent.state, sent.exit_code) == (TaskState.FAILED, 3)


# --- assignments ------------------------------------------------------------------------------


def assignment(number: int, **changes: object) -> Assignment:
    made = Assignment(
        task_id=TaskId(f"t{number}"),
        service_id=ServiceId(f"s{number}"),
        service_name="web",
        spec_version=1,
        slot=1,
        node_id=NodeId("n1"),
        desired_state=TaskState.RUNNING,
        state=TaskState.ASSIGNED,
    )
    return msgspec.structs.replace(made, **changes)


def version(number: int) -> ServiceVersion:
    spec = ServiceSpec(name="web", task=TaskSpec(container=ContainerSpec(image="web:1")))
    return ServiceVersion(service_id=ServiceId(f"s{number}"), number=1, spec=spec)


def complete(number: int, *which: int) -> Complete:
    return Complete(
        number=number, tasks=[assignment(n) for n in which], specs=[version(n) for n in which]
    )


def changes(
    applies_to: int, number: int, *which: int, removed: tuple[TaskId, ...] = ()
) -> Incremental:
    return Incremental(
        applies_to=applies_to,
        number=number,
        tasks=[assignment(n) for n in which],
        specs=[version(n) for n in which],
        removed=removed,
    )


def test_a_set_begins_incomplete() -> None:
    assert not AssignmentSet().is_complete
    assert AssignmentSet().after(complete(1)).is_complete


def test_changes_build_on_each_other() -> None:
    known = AssignmentSet().after(complete(3, 1, 2)).after(changes(3, 4, 3, removed=(T1,)))

    assert set(known.tasks) == {"t2", "t3"}
    assert set(known.specs) == {("s2", 1), ("s3", 1)}
    assert known.number == 4


def test_a_complete_set_replaces_everything() -> None:
    known = AssignmentSet().after(complete(3, 1, 2)).after(complete(9, 3))

    assert set(known.tasks) == {"t3"}


@pytest.mark.parametrize("applies_to", [2, 4])
def test_changes_to_another_set_are_a_gap(applies_to: int) -> None:
    known = AssignmentSet().after(complete(3, 1))

    with pytest.raises(GapError, match=f"changes to set {applies_to}, but we have 3"):
        known.after(changes(applies_to, 9))


def test_changes_to_nothing_are_a_gap() -> None:
    with pytest.raises(GapError):
        AssignmentSet().after(changes(0, 1))


def test_only_a_task_that_is_to_run_lacks_its_specification() -> None:
    ended = assignment(2, state=TaskState.FAILED)
    leaving = assignment(3, desired_state=TaskState.SHUTDOWN)
    message = Complete(number=1, tasks=[assignment(1), ended, leaving], specs=[])

    assert AssignmentSet().after(message).lacking_spec() == ["t1"]


# --- managers ---------------------------------------------------------------------------------


def test_every_manager_is_tried_before_any_twice() -> None:
    managers = Managers(["a:1", "b:1", "c:1"], random.Random(1))
    tried = []
    for _ in range(3):
        address = managers.next()
        tried.append(address)
        managers.ended(address, 0.0)

    assert sorted(tried) == ["a:1", "b:1", "c:1"]


def test_another_manager_is_tried_promptly_and_a_whole_round_waits_longer_each_time() -> None:
    managers = Managers(["a:1", "b:1"], random.Random(1))
    prompt, between = [], []
    for _ in range(400):
        prompt.append(managers.ended(managers.next(), 0.0))
        between.append(managers.ended(managers.next(), 0.0))

    assert max(prompt) <= PROMPT_SECONDS_MAX
    assert max(between) <= WAIT_SECONDS_MAX
    assert max(between[:2]) < 1.0
    assert sum(between[-100:]) / 100 > WAIT_SECONDS_MAX / 3


def test_after_a_good_session_the_others_come_first_and_at_once() -> None:
    managers = Managers(["a:1", "b:1", "c:1"], random.Random(1))
    for _ in range(20):
        managers.ended(managers.next(), 0.0)
    good = managers.next()

    wait = managers.ended(good, 100.0)

    assert wait <= PROMPT_SECONDS_MAX
    assert good not in {managers.next(), managers.next()}
    assert managers.next() == good


def test_the_only_manager_is_tried_again_soon_after_a_good_session() -> None:
    managers = Managers(["a:1"], random.Random(1))

    assert managers.ended(managers.next(), 100.0) <= PROMPT_SECONDS_MAX
    assert managers.next() == "a:1"


def test_managers_that_were_told_of_are_tried_too() -> None:
    managers = Managers(["a:1"], random.Random(1))
    managers.told(["b:1", "", "b:1"])

    assert sorted(managers.known) == ["a:1", "b:1"]
    assert sorted([managers.next(), managers.next()]) == ["a:1", "b:1"]

    managers.told([])
    assert sorted(managers.known) == ["a:1", "b:1"]
    managers.told(["c:1"])
    assert sorted(managers.known) == ["a:1", "c:1"]


def test_agents_do_not_all_turn_to_the_same_manager() -> None:
    addresses = ["a:1", "b:1", "c:1"]
    firsts = [Managers(addresses, random.Random(seed)).next() for seed in range(300)]

    assert all(firsts.count(address) > 50 for address in addresses)


# --- identity ---------------------------------------------------------------------------------


def ids(seed: int) -> IdSource:
    return IdSource(random.Random(seed))


def test_a_node_keeps_its_id_and_its_cluster(tmp_path: Path) -> None:
    directory = tmp_path / "deep" / "state"
    made = IdentityFiles(directory).load(ids(1))
    assert made.cluster_id == ""

    cluster_id = ClusterId(ids(3).new())
    IdentityFiles(directory).join(cluster_id)
    again = IdentityFiles(directory).load(ids(2))

    assert again.node_id == made.node_id
    assert again.cluster_id == cluster_id
    assert directory.stat().st_mode & 0o077 == 0
    assert sorted(path.name for path in directory.iterdir()) == [CLUSTER_FILE, NODE_FILE]


@pytest.mark.parametrize("text", ["short", "", "UPPER" * 5, "x" * 26, "\xff" * 25])
def test_a_damaged_id_is_not_taken(tmp_path: Path, text: str) -> None:
    (tmp_path / NODE_FILE).write_text(text, encoding="latin1")

    with pytest.raises(InvalidError, match=f"{NODE_FILE} does not hold an id"):
        IdentityFiles(tmp_path).load(ids(1))


def test_a_directory_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(InvalidError, match="cannot keep the node's id"):
        IdentityFiles(tmp_path / "file" / "state").load(ids(1))


# --- settings and description -----------------------------------------------------------------


def test_settings_come_from_flags_and_environment() -> None:
    loaded = settings.load(
        AgentSettings,
        "agent",
        ["--managers", "m1:7420,m2:7420", "--cpus", "1.5"],
        {"SHOAL_AGENT_LABELS": "zone=a,disk=ssd", "SHOAL_AGENT_LOG_JSON": "yes"},
    )

    assert loaded.managers == ("m1:7420", "m2:7420")
    assert loaded.labels == {"zone": "a", "disk": "ssd"}
    assert loaded.log_json
    loaded.check()


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"managers": ()}, "managers: name at least one"),
        ({"managers": ("m1",)}, "managers: 'm1' is not host:port"),
        ({"managers": ("m1:http",)}, "is not host:port"),
        ({"managers": (":7420",)}, "is not host:port"),
        ({"cpus": "many"}, "many"),
        ({"memory": "1 ton"}, "1 ton"),
        ({"generic_resources": ("gpu",)}, "generic_resources: 'gpu' is neither KIND=COUNT"),
        ({"generic_resources": ("gpu=",)}, "is neither"),
        ({"generic_resources": ("",)}, "is neither"),
        ({"generic_resources": ("gpu=0",)}, "generic_resources: gpu: must be 1 to 1000000, is 0"),
        ({"generic_resources": ("gpu=a,b", "gpu=a")}, "gpu: must have names that differ"),
        ({"generic_resources": ("gpu=a b",)}, "gpu: must be a name"),
        ({"generic_resources": ("g p u=a",)}, "must be a kind"),
        ({"generic_resources": tuple(f"gpu=g{i}" for i in range(257))}, "at most 256 names"),
    ],
)
def test_bad_settings_are_refused(changes: dict[str, object], complaint: str) -> None:
    with pytest.raises(InvalidError, match=complaint):
        AgentSettings(**changes).check()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "counts", "items"),
    [
        ("licence=4", {"licence": 4}, {}),
        ("gpu=GPU-1,GPU-2,licence=4", {"gpu": 2, "licence": 4}, {"gpu": ("GPU-1", "GPU-2")}),
        ("gpu=0,gpu=1", {"gpu": 2}, {"gpu": ("0", "1")}),
        ("gpu=only", {"gpu": 1}, {"gpu": ("only",)}),
        (" gpu = a , b ", {"gpu": 2}, {"gpu": ("a", "b")}),
    ],
)
def test_generic_resources_are_counted_or_named(
    given: str, counts: dict[str, int], items: dict[str, tuple[str, ...]]
) -> None:
    flag = settings.load(AgentSettings, "agent", ["--generic-resources", given], {})
    whole = AgentSettings(generic_resources=(given,))

    for chosen in (flag, whole):
        described = host.describe(chosen, INFO)
        assert described.capacity.generic == counts
        assert described.generic_items == items


def test_a_host_offers_all_that_it_has_unless_told_otherwise() -> None:
    whole = host.describe(AgentSettings(address="198.18.0.5"), INFO)
    part = host.describe(AgentSettings(address="198.18.0.5", cpus="1", memory="1GiB"), INFO)

    assert whole.capacity == INFO.capacity
    assert part.capacity == Resources(cpu_nanos=1_000_000_000, memory_bytes=1 << 30)
    assert whole.hostname == INFO.hostname
    assert whole.address == "198.18.0.5"
    assert host.describe(AgentSettings(hostname="h1"), INFO).hostname == "h1"


def test_the_address_is_the_one_on_the_way_to_a_manager() -> None:
    assert host.address_towards(["nobody.invalid:1", "127.0.0.1:7420"]) == "127.0.0.1"
    assert host.address_towards(["[::1]:7420"]) == "::1"
    assert host.address_towards(["nobody.invalid:1"]) == ""

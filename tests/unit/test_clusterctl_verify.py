"""``clusterctl verify``: what is judged when, and what is said of it."""

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result

from cluster.model import (
    ContainerSpec,
    Dependency,
    Node,
    NodeDescription,
    NodeId,
    NodeSpec,
    NodeState,
    NodeStatus,
    Object,
    Placement,
    Service,
    ServiceId,
    ServiceSpec,
    ServiceVersion,
    Task,
    TaskId,
    TaskSpec,
    TaskState,
    TaskStatus,
)
from cluster.resources import Resources
from clusterctl.cli import cli
from clusterctl.follow import Update
from clusterctl.verification import Report, Verification
from tests.fakes.control import FakeControl

replace = msgspec.structs.replace

SPEC = ServiceSpec(
    name="web",
    replicas=2,
    task=TaskSpec(
        container=ContainerSpec(image="web:1"),
        reservations=Resources(cpu_nanos=1),
        placement=Placement(constraints=("node.labels.disk == ssd",)),
    ),
)
NODE = Node(
    id=NodeId("n1"),
    spec=NodeSpec(labels={"disk": "ssd"}),
    description=NodeDescription(hostname="host1", capacity=Resources(cpu_nanos=2)),
    status=NodeStatus(state=NodeState.READY),
    version=1,
)
SERVICE = Service(id=ServiceId("s1"), spec=SPEC, version=2)
VERSION = ServiceVersion(service_id=SERVICE.id, number=1, spec=SPEC, version=2)


def task(name: str, slot: int, state: TaskState, version: int, *, on: str = "n1") -> Task:
    return Task(
        id=TaskId(name),
        service_id=SERVICE.id,
        spec_version=1,
        slot=slot,
        node_id=NodeId(on),
        status=TaskStatus(state=state),
        version=version,
    )


def whole(*values: Object, revision: int) -> Update:
    return Update(revision, snapshot=True, changed=values, removed=())


def news(*values: Object, revision: int, removed: tuple[Object, ...] = ()) -> Update:
    return Update(revision, snapshot=False, changed=values, removed=removed)


def verified(*updates: Update) -> Report:
    verification = Verification()
    for update in updates:
        verification.apply(update)
    assert verification.is_settled
    return verification.conclude()


RUNNING = task("t1", 1, TaskState.RUNNING, 3)
WELL = whole(NODE, SERVICE, VERSION, RUNNING, revision=3)
WAITING = task("t2", 2, TaskState.NEW, 4, on="")
BOUND = task("t2", 2, TaskState.ASSIGNED, 5)


def invariants(report: Report) -> list[str]:
    return [breach.invariant for breach in report.breaches]


def test_a_cluster_that_is_well_is_reported_so() -> None:
    report = verified(WELL, news(WAITING, revision=4), news(BOUND, revision=5))
    assert report == Report(5, 1, 1, 2, 2, (), ())


def test_a_snapshot_in_parts_is_judged_when_it_is_whole() -> None:
    verification = Verification()
    verification.apply(Update(0, snapshot=True, changed=(SERVICE, RUNNING), removed=()))
    assert not verification.is_settled
    verification.apply(news(NODE, VERSION, revision=3))
    assert verification.conclude().breaches == ()


def test_what_is_wrong_from_the_beginning_is_found() -> None:
    assert invariants(verified(whole(NODE, SERVICE, RUNNING, revision=3))) == ["I19", "I19"]


def test_each_step_is_judged() -> None:
    back = replace(RUNNING, status=TaskStatus(state=TaskState.STARTING), version=4)
    again = replace(RUNNING, version=5)
    report = verified(WELL, news(back, revision=4), news(again, revision=5))
    assert invariants(report) == ["I3"], "though it has passed"
    other = replace(NODE, spec=NodeSpec(), version=4)
    assert invariants(verified(WELL, news(other, revision=4), news(BOUND, revision=5))) == ["I6"]


def test_what_is_ahead_of_the_rest_is_judged_with_it() -> None:
    """A manager shows its own write (5) before another's (4), which made room for it."""
    ended = replace(RUNNING, status=TaskStatus(state=TaskState.COMPLETE), version=4)
    successor = task("t3", 1, TaskState.NEW, 5, on="")
    verification = Verification()
    verification.apply(WELL)
    verification.apply(news(successor, revision=3))
    assert not verification.is_settled
    verification.apply(news(ended, revision=5))
    assert verification.conclude().breaches == ()
    assert invariants(verified(WELL, news(successor, revision=5))) == ["I2"]


def test_who_starts_before_what_it_needs_is_found() -> None:
    needs = replace(SPEC, name="needs", depends_on=(Dependency(service="web"),))
    version = ServiceVersion(service_id=ServiceId("s2"), number=1, spec=needs, version=4)
    waiting = Service(id=version.service_id, spec=needs, version=4)
    first = replace(task("t9", 1, TaskState.NEW, 5, on=""), service_id=waiting.id)
    report = verified(WELL, news(waiting, version, revision=4), news(first, revision=5))
    assert invariants(report) == ["I9"], "one of two replicas runs"
    both = task("t2", 2, TaskState.RUNNING, 4)
    assert invariants(verified(WELL, news(both, waiting, version, first, revision=5))) == []
    assert (
        invariants(verified(whole(NODE, *WELL.changed, waiting, version, first, revision=5))) == []
    )


def test_of_what_passes_between_two_looks_only_the_result_is_judged() -> None:
    """The node is gone by now: nobody can tell whether it took the task."""
    ahead = news(replace(SERVICE, version=9), revision=3)
    report = verified(
        WELL,
        ahead,
        news(task("t2", 2, TaskState.ASSIGNED, 5, on="n2"), revision=5),
        news(revision=9),
    )
    assert report.breaches == ()
    assert report.changes == 2
    gone = news(revision=9, removed=(RUNNING,))
    back = replace(RUNNING, status=TaskStatus(state=TaskState.STARTING), version=4)
    assert verified(WELL, ahead, news(back, revision=4), gone).breaches == ()


def test_after_a_break_it_begins_anew() -> None:
    older = replace(RUNNING, status=TaskStatus(state=TaskState.STARTING), version=2)
    anew = whole(NODE, SERVICE, VERSION, older, revision=3)
    assert verified(WELL, anew).breaches == (), "another manager may lag behind"


def test_a_doubt_counts_if_it_lasts() -> None:
    shrunk = replace(
        NODE, description=NodeDescription(hostname="host1", capacity=Resources()), version=4
    )
    begun = whole(shrunk, SERVICE, VERSION, RUNNING, revision=4)
    report = verified(begun)
    assert [doubt.invariant for doubt in report.doubts] == ["I1"]
    assert "offers 0" in report.doubts[0].text
    assert verified(begun, news(replace(NODE, version=5), revision=5)).doubts == ()
    assert verified(WELL, news(shrunk, revision=4)).doubts == ()


# --- the command ---


@pytest.fixture
def control() -> Iterator[FakeControl]:
    with FakeControl() as fake:
        fake.add_service(replace(SPEC, task=replace(SPEC.task, placement=Placement())))
        fake.settle()
        yield fake


Run = Callable[..., Result]


@pytest.fixture
def run(control: FakeControl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("SHOAL_CONFIG", str(tmp_path / "config.yaml"))
    monkeypatch.setenv("SHOAL_ENDPOINT", control.endpoint)

    def invoke(*arguments: str, code: int = 0) -> Result:
        result = CliRunner().invoke(cli, ["verify", *arguments], prog_name="clusterctl")
        assert result.exit_code == code, result.output
        return result

    return invoke


def test_a_cluster_that_keeps_its_promises(run: Run, control: FakeControl) -> None:
    told = run("--for", "0").stdout
    assert told == (
        f"3 nodes, 1 service, 2 tasks, 0 changes, up to revision {control.revision}:"
        " every promise is kept\n"
    )


def test_a_breach_is_explained_and_is_a_failure(run: Run, control: FakeControl) -> None:
    (service,) = control.all(Service)
    control.add_task(service, 1, node_id=control.all(Node)[0].id)
    result = run("--for", "0", code=1)
    assert "Broken:   I2, a place has one task that serves" in result.stdout
    assert "2 tasks are current in one place: web.1 (" in result.stdout
    assert "clusterctl service ps --all SERVICE" in result.stdout
    assert "Please report it" in result.stdout
    assert result.stdout.endswith(": 1 breach\n")
    assert result.stderr == ""


def test_what_breaks_while_it_watches_is_found(run: Run, control: FakeControl) -> None:
    (task_, _) = control.all(Task)
    back = replace(task_, status=TaskStatus(state=TaskState.STARTING))
    control.hooks["Watch"] = lambda: threading.Timer(0.3, control.put, [back]).start()
    found = json.loads(run("--for", "1s", "--format", "json", code=1).stdout)
    assert found["kept"] is False
    assert found["changes"] == 1
    (breach,) = found["breaches"]
    assert breach["invariant"] == "I3"
    assert breach["objects"] == [task_.id]
    assert "went back from running to starting" in breach["text"]
    assert breach["promise"].startswith("a task only goes forward")
    assert breach["next"]


def test_a_doubt_is_told_and_is_no_failure(run: Run, control: FakeControl) -> None:
    node = control.all(Task)[0].node_id
    (held,) = (each for each in control.all(Node) if each.id == node)
    control.put(replace(held, description=NodeDescription(hostname="small")))
    told = run("--for", "0").stdout
    assert "Perhaps:" in told
    assert "node 'small' reserve 1 cpu_nanos, it offers 0" in told
    assert run("--for", "0", "--format", "{{.Kept}} {{len .Doubts}}").stdout == "true 1\n"


def test_without_a_manager_it_says_so(run: Run, control: FakeControl) -> None:
    control.stop()
    assert "error: " in run("--for", "0", code=1).stderr

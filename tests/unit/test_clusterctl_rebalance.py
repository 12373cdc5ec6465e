"""``clusterctl rebalance`` and the settings of what happens by itself."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import msgspec
import pytest
from click.testing import CliRunner, Result

from cluster.api.v1 import control_pb2 as wire
from cluster.model import (
    AskedMove,
    Cluster,
    ClusterId,
    ClusterSpec,
    ContainerSpec,
    MoveState,
    NodeId,
    Object,
    Rebalancing,
    Service,
    ServiceId,
    ServiceSpec,
    Task,
    TaskId,
    TaskSpec,
    TaskState,
    TaskStatus,
)
from clusterctl.answers import PlannedMove
from clusterctl.cli import cli
from clusterctl.convergence import Verdict, converged
from clusterctl.follow import Update
from clusterctl.moves import Rebalanced
from clusterctl.view import View
from tests.fakes.control import FakeControl

replace = msgspec.structs.replace
Run = Callable[..., Result]

SPEC = ServiceSpec(name="web", task=TaskSpec(container=ContainerSpec(image="web:1")), replicas=2)


@pytest.fixture
def control() -> Iterator[FakeControl]:
    with FakeControl() as fake:
        yield fake


@pytest.fixture
def run(control: FakeControl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SHOAL_CONFIG", str(tmp_path / "config.yaml"))
    monkeypatch.setenv("SHOAL_ENDPOINT", control.endpoint)

    def run(*arguments: str, code: int = 0) -> Result:
        result = CliRunner().invoke(cli, arguments)
        assert result.exit_code == code, (result.stdout, result.stderr)
        return result

    return run


def planned(task: Task, name: str = "web.1") -> wire.PlannedMove:
    return wire.PlannedMove(
        task_id=task.id, name=name, from_node="node1", to_node="node3", gain=1.0, why="beyond"
    )


def service_with_task(control: FakeControl) -> tuple[Service, Task]:
    control.auto = False
    service = control.add_service(SPEC)
    (node, *_) = control.all(type(control.node("node1")))
    task = Task(
        id=TaskId("old"),
        service_id=service.id,
        spec_version=1,
        slot=1,
        node_id=node.id,
        status=TaskStatus(state=TaskState.RUNNING),
        created_at=1.0,
    )
    return service, control.put(task)


# --- the command ----------------------------------------------------------------------------------


def test_a_plan_tells_the_moves_and_ends_with_2(run: Run, control: FakeControl) -> None:
    _, task = service_with_task(control)
    control.planned_moves = [planned(task)]
    lines = run("rebalance", "--plan", "--max-moves", "7", code=2).stdout.splitlines()
    assert re.split("   +", lines[0]) == ["TASK", "FROM", "TO", "GAIN", "WHY"]
    assert re.split("   +", lines[1]) == [
        *("web.1", "node1", "node3", "1", "its node has more than its share"),
    ]
    assert (control.rebalance_asked.max_moves, control.rebalance_asked.plan) == (7, True)
    told = json.loads(run("rebalance", "--plan", "--format", "json", code=2).stdout)
    assert told["moves"][0]["why"] == "beyond"
    assert told["revision"] == control.revision


def test_a_plan_without_moves_ends_with_0(run: Run, control: FakeControl) -> None:
    assert run("rebalance", "--plan").stdout.startswith("nothing to move")
    assert control.rebalance_asked.max_moves == 0, "as many as usual"
    assert run("rebalance").stdout.startswith("nothing to move")


def test_it_waits_until_another_task_runs_where_it_shall(run: Run, control: FakeControl) -> None:
    _, task = service_with_task(control)
    control.planned_moves = [planned(task)]

    def carry_out() -> None:
        (cluster,) = control.all(Cluster)
        control.put(replace(cluster, moves=()))
        control.put(
            replace(
                task, desired_state=TaskState.SHUTDOWN, status=TaskStatus(state=TaskState.SHUTDOWN)
            )
        )
        control.put(replace(task, id=TaskId("new"), created_at=2.0))

    control.hooks["Watch"] = carry_out
    assert "rebalance: 1/1 moved" in run("rebalance").stderr


def test_it_fails_when_a_move_was_given_up_and_says_why(run: Run, control: FakeControl) -> None:
    _, task = service_with_task(control)
    control.planned_moves = [planned(task)]

    def give_up() -> None:
        (cluster,) = control.all(Cluster)
        moves = tuple(
            replace(move, state=MoveState.GIVEN_UP, message="node node3 is down")
            for move in cluster.moves
        )
        control.put(replace(cluster, moves=moves))

    control.hooks["Watch"] = give_up
    stderr = run("rebalance", code=1).stderr
    assert "web.1 stays on node1: node node3 is down" in stderr


def test_without_waiting_it_returns_at_once_and_is_not_sent_twice(
    run: Run, control: FakeControl
) -> None:
    _, task = service_with_task(control)
    control.planned_moves = [planned(task)]
    run("rebalance", "--no-wait")
    assert re.search(r"Moves: +1 asked", run("cluster", "info").stdout)
    assert "Watch" not in control.calls
    control.fail("Rebalance", grpc.StatusCode.UNAVAILABLE, done=True)
    control.calls.clear()
    assert "did not say whether it did that" in run("rebalance", "--no-wait", code=1).stderr
    assert control.calls.count("Rebalance") == 1


def test_a_number_that_is_none_is_a_slip(run: Run) -> None:
    for number in ("0", "-3", "many"):
        result = run("rebalance", "--max-moves", number, code=2)
        assert "--max-moves" in result.stderr
        assert "see `" in result.stderr


def test_what_happens_by_itself_is_set_piece_by_piece(run: Run, control: FakeControl) -> None:
    changed = run(
        *("cluster", "update", "--rebalance", "on", "--rebalance-hours", "22:00-06:00"),
        *("--rebalance-time-zone", "Europe/Vienna", "--rebalance-moves", "3"),
    )
    assert changed.stdout.splitlines() == [
        "rebalancing.automatic: on, was off",
        "rebalancing.hours: 22:00-06:00, was none",
        "rebalancing.time_zone: Europe/Vienna, was UTC",
        "rebalancing.moves: 3, was 10",
    ]
    run("cluster", "update", "--rebalance-rest", "2h", "--rebalance-hours", "")
    (stored,) = control.all(Cluster)
    assert stored.spec == ClusterSpec(
        rebalancing=Rebalancing(
            automatic=True, time_zone="Europe/Vienna", moves=3, rest_seconds=7200.0
        )
    )
    info = run("cluster", "info").stdout
    assert re.search(r"Rebalancing: +by itself, at most 3 moves a round", info)
    run("cluster", "update", "--rebalance", "off")
    assert re.search(r"Rebalancing: +by command", run("cluster", "info").stdout)


# --- is it done yet -------------------------------------------------------------------------------

WEB = Service(id=ServiceId("web-id"), spec=SPEC)
OLD = Task(
    id=TaskId("old"),
    service_id=WEB.id,
    spec_version=1,
    slot=1,
    node_id=NodeId("n1"),
    status=TaskStatus(state=TaskState.RUNNING),
    created_at=1.0,
)
NEW = replace(OLD, id=TaskId("new"), node_id=NodeId("n3"), created_at=2.0)
MOVES = (PlannedMove(TaskId("old"), "web.1", "node1", "node3", 1.0, "beyond"),)
ASKED = AskedMove(task_id=OLD.id, node_id=NodeId("n3"))
CLUSTER = Cluster(id=ClusterId("c"), version=20, moves=(ASKED,))


def judge(*objects: Object) -> Verdict:
    view = View()
    view.apply(Update(30, True, (WEB, *objects), ()))
    return converged(view, Rebalanced(CLUSTER, MOVES))


def doing(verdict: Verdict) -> str:
    (part,) = verdict.parts
    assert not part.done
    ((word, count),) = part.doing
    assert count == 1
    return word


def test_how_far_a_move_is() -> None:
    gone = replace(OLD, desired_state=TaskState.SHUTDOWN)
    ended = replace(gone, status=TaskStatus(state=TaskState.SHUTDOWN))
    starts = replace(NEW, status=TaskStatus(state=TaskState.STARTING))
    done = replace(CLUSTER, moves=(), version=21)
    assert doing(judge(OLD, replace(CLUSTER, version=19))) == "not seen yet"
    assert doing(judge(OLD, CLUSTER)) == "to be moved"
    assert doing(judge(replace(OLD, moving="rebalancing: beyond"), CLUSTER)) == "moving"
    assert doing(judge(gone, starts, done)) == "stopping"
    assert doing(judge(ended, starts, done)) == "starting"
    assert judge(ended, NEW, done).done
    assert judge(NEW, done).done, "its record may be forgotten already"


def test_a_successor_without_room_says_so() -> None:
    moving = replace(OLD, moving="rebalancing: beyond")
    waits = replace(NEW, status=TaskStatus(state=TaskState.PENDING, error="short of memory"))
    (part,) = judge(moving, waits, CLUSTER).parts
    assert part.waiting == (("web.1", "cannot be placed on node3: short of memory"),)


def test_nothing_fails_before_all_have_come_to_an_end() -> None:
    other = replace(OLD, id=TaskId("other"), slot=2)
    moves = (*MOVES, PlannedMove(TaskId("other"), "web.2", "node1", "node3", 1.0, "beyond"))
    stays = replace(ASKED, state=MoveState.GIVEN_UP, message="no room")
    under_way = AskedMove(task_id=other.id, node_id=NodeId("n3"), state=MoveState.UNDER_WAY)
    view = View()
    cluster = replace(CLUSTER, moves=(stays, under_way), version=21)
    view.apply(Update(30, True, (WEB, OLD, other, cluster), ()))
    assert converged(view, Rebalanced(CLUSTER, moves)).failures == ()
    ended = replace(cluster, moves=(stays,), version=22)
    moved = replace(other, id=TaskId("moved"), created_at=3.0)
    view.apply(Update(31, False, (ended, moved), (other,)))
    verdict = converged(view, Rebalanced(CLUSTER, moves))
    assert not verdict.done
    assert verdict.failures == ("web.1 stays on node1: no room",)

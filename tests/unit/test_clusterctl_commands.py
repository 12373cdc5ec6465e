"""The command line against a Control API: what it prints, what it sends, how it ends."""

import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import msgspec
import pytest
import yaml
from click.testing import CliRunner, Result

from cluster.api.v1 import control_pb2 as wire
from cluster.api.v1 import types_pb2
from cluster.model import (
    Availability,
    ClusterSpec,
    ContainerSpec,
    PublishedPort,
    Service,
    ServiceSpec,
    TaskSpec,
    TaskState,
)
from clusterctl.cli import cli
from tests.fakes.control import NOW, FakeControl

Run = Callable[..., Result]

SPEC = ServiceSpec(
    name="web",
    task=TaskSpec(
        container=ContainerSpec(image="web:1", environment={"A": "1"}),
        ports=(PublishedPort(target=80, published=8080),),
    ),
    replicas=2,
)
COMPOSE = """
services:
  web:
    image: web:${TAG:-1}
    deploy: {replicas: 2}
  worker:
    image: worker:1
"""


@pytest.fixture(autouse=True)
def _own_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("SHOAL_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SHOAL_CONFIG", str(tmp_path / "config.yaml"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def control() -> Iterator[FakeControl]:
    with FakeControl() as fake:
        yield fake


@pytest.fixture
def run(control: FakeControl, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("SHOAL_ENDPOINT", control.endpoint)

    def invoke(*arguments: str, code: int = 0, stdin: str = "") -> Result:
        result = CliRunner().invoke(cli, arguments, input=stdin, prog_name="clusterctl")
        assert result.exit_code == code, result.output
        return result

    return invoke


@pytest.fixture
def web(control: FakeControl) -> Service:
    service = control.add_service(SPEC)
    control.settle()
    return service


def rows(result: Result) -> Any:
    return json.loads(result.stdout)


# --- stacks ---


def test_deploy_says_what_it_did_and_waits(run: Run, tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text(COMPOSE)
    result = run("stack", "deploy", "demo")
    assert result.stdout.splitlines() == ["created demo_web", "created demo_worker"]
    assert "demo_web: 2/2 running" in result.stderr
    assert "stack demo: 3/3 running" in result.stderr
    again = run("stack", "deploy", "demo")
    assert again.stdout.splitlines() == ["unchanged demo_web", "unchanged demo_worker"]


def test_deploy_from_stdin_several_files_and_env_file(
    run: Run, control: FakeControl, tmp_path: Path
) -> None:
    (tmp_path / "more.yaml").write_text("services: {web: {deploy: {replicas: 3}}}")
    (tmp_path / "tags.env").write_text("TAG=7")
    arguments = ["-c", "-", "-c", "more.yaml", "--env-file", "tags.env", "demo"]
    run("stack", "deploy", *arguments, stdin=COMPOSE)
    service = control.service("demo_web")
    assert service.spec.task.container.image == "web:7"
    assert service.spec.replicas == 3


def test_a_dotenv_beside_the_first_file_is_read_and_the_environment_wins(
    run: Run, control: FakeControl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "app"
    folder.mkdir()
    (folder / "docker-compose.yml").write_text(COMPOSE)
    (folder / ".env").write_text("TAG=8")
    run("stack", "deploy", "-c", "app/docker-compose.yml", "demo")
    assert control.service("demo_web").spec.task.container.image == "web:8"
    monkeypatch.setenv("TAG", "9")
    run("stack", "deploy", "-c", "app/docker-compose.yml", "demo")
    assert control.service("demo_web").spec.task.container.image == "web:9"


def test_left_over_services_are_told_and_pruned_when_asked(run: Run, control: FakeControl) -> None:
    run("stack", "deploy", "-c", "-", "demo", stdin=COMPOSE)
    less = "services: {web: {image: 'web:1', deploy: {replicas: 2}}}"
    kept = run("stack", "deploy", "-c", "-", "demo", stdin=less)
    assert "warning: not in the files, but still there: demo_worker" in kept.stderr
    pruned = run("stack", "deploy", "--prune", "-c", "-", "demo", stdin=less)
    assert "removed demo_worker" in pruned.stdout
    assert [each.spec.name for each in control.all(Service)] == ["demo_web"]


def test_a_bad_file_is_refused_with_its_place_and_nothing_is_sent(
    run: Run, control: FakeControl
) -> None:
    result = run("stack", "deploy", "-c", "-", "demo", code=1, stdin="services: {web: {imgae: x}}")
    assert result.stderr.startswith("error: stdin:1:")
    assert "imgae" in result.stderr
    assert "did you mean 'image'" in result.stderr
    assert control.calls == []


def test_no_file_names_the_ones_looked_for(run: Run) -> None:
    assert "compose.yaml, compose.yml" in run("stack", "deploy", "demo", code=1).stderr
    assert "cannot read nope.yaml" in run("stack", "deploy", "-c", "nope.yaml", "x", code=1).stderr


def test_a_deploy_without_waiting_returns_at_once(run: Run, control: FakeControl) -> None:
    control.auto = False
    result = run("stack", "deploy", "--no-wait", "-c", "-", "demo", stdin=COMPOSE)
    assert result.stderr == ""
    assert "Watch" not in control.calls


def test_a_deploy_that_does_not_converge_ends_with_the_reason(
    run: Run, control: FakeControl
) -> None:
    control.auto = False
    result = run("stack", "deploy", "--timeout", "300ms", "-c", "-", "demo", code=1, stdin=COMPOSE)
    last = result.stderr.splitlines()[-1]
    assert last.startswith("error: stack demo: not done after 300ms: demo_web: 0/2 running")


def test_pending_tasks_say_why_while_one_waits(run: Run, control: FakeControl) -> None:
    control.auto = False

    def place() -> None:
        service = control.service("demo_worker")
        task = control.add_task(service, 1, TaskState.PENDING)
        control.move(task, TaskState.PENDING, error="no node fits; 3 nodes: short of 9 CPU")

    control.hooks["DeployStack"] = place
    result = run("stack", "deploy", "--timeout", "300ms", "-c", "-", "demo", code=1, stdin=COMPOSE)
    assert "cannot be placed: no node fits; 3 nodes: short of 9 CPU" in result.stderr


def test_a_crash_loop_is_given_up(run: Run, control: FakeControl) -> None:
    control.auto = False

    def crash() -> None:
        service = control.service("demo_worker")
        for _ in range(3):
            task = control.add_task(service, 1, TaskState.RUNNING)
            control.move(task, TaskState.FAILED, error="exit code 7")

    control.hooks["DeployStack"] = crash
    result = run("stack", "deploy", "--timeout", "20s", "-c", "-", "demo", code=1, stdin=COMPOSE)
    assert "demo_worker.1 failed 3 times in a row: exit code 7" in result.stderr
    assert "clusterctl task explain" in result.stderr


def test_config_prints_what_the_files_come_to(run: Run, control: FakeControl) -> None:
    result = run("stack", "config", "--name", "demo", "-c", "-", stdin=COMPOSE)
    document = yaml.safe_load(result.stdout)
    assert document["services"]["web"]["image"] == "web:1"
    assert control.calls == []
    assert run("stack", "config", "-q", "--name", "demo", "-c", "-", stdin=COMPOSE).stdout == ""


def test_config_without_a_name_takes_the_folders(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "My App"
    folder.mkdir()
    (folder / "compose.yaml").write_text(COMPOSE)
    result = run("stack", "config", "-c", "My App/compose.yaml")
    assert yaml.safe_load(result.stdout)["name"] == "my-app"


def test_stack_listings_and_removal(run: Run, control: FakeControl) -> None:
    run("stack", "deploy", "-c", "-", "demo", stdin=COMPOSE)
    assert rows(run("stack", "ls", "--format", "json"))[0]["desired"] == 3
    assert run("stack", "ls", "-q").stdout == "demo\n"
    services = rows(run("stack", "services", "demo", "--format", "json"))
    assert [each["name"] for each in services] == ["demo_web", "demo_worker"]
    assert len(rows(run("stack", "ps", "demo", "--format", "json"))) == 3
    gone = run("stack", "rm", "demo")
    assert gone.stdout.splitlines() == ["removed demo_web", "removed demo_worker"]
    assert "stack demo: gone" in gone.stderr
    assert "no stack 'demo'" in run("stack", "rm", "demo", code=1).stderr


# --- services ---


def test_service_listing_by_template(run: Run, web: Service) -> None:
    result = run("service", "ls", "--format", "{{.Name}} {{.Replicas}}")
    assert result.stdout == "web 2/2\n"


def test_a_bad_format_is_refused_before_anything_is_asked(run: Run, control: FakeControl) -> None:
    assert "is no format" in run("service", "ls", "--format", "jsn", code=2).stderr
    assert control.calls == []


def test_scale_waits_until_it_is_so(run: Run, control: FakeControl, web: Service) -> None:
    result = run("service", "scale", "web=4")
    assert result.stdout == "web: 4 replicas, was 2\n"
    assert "service web: 4/4 running" in result.stderr
    assert "2/2" not in run("service", "scale", "web=0").stderr
    assert [t for t in control.tasks_of(web) if t.status.state is TaskState.RUNNING] == []


def test_several_are_scaled_at_once_or_not_at_all(
    run: Run, control: FakeControl, web: Service
) -> None:
    result = run("service", "scale", "web=3", "nope=1", code=1)
    assert result.stderr == "error: no service 'nope'\n"
    assert control.service("web").spec.replicas == 2


@pytest.mark.parametrize(
    "wanted", ["web", "web=", "web=-1", "web=x", "=3", "web=1.5", "web=" + "9" * 30]
)
def test_a_bad_scale_is_refused(run: Run, control: FakeControl, wanted: str) -> None:
    assert f"'{wanted}'" in run("service", "scale", "--", wanted, code=2).stderr
    assert control.calls == []


def test_update_changes_what_is_asked_and_keeps_the_rest(
    run: Run, control: FakeControl, web: Service
) -> None:
    result = run(
        *("service", "update", "web", "--image", "web:2", "--env-add", "B=2"),
        *("--limit-memory", "64MiB", "--reserve-cpu", "0.5", "--update-order", "start-first"),
        *("--constraint-add", "node.labels.disk == ssd", "--args", "serve --port 80"),
    )
    assert result.stdout == "web: updated\n"
    spec = control.service("web").spec
    assert spec.task.container.image == "web:2"
    assert spec.task.container.environment == {"A": "1", "B": "2"}
    assert spec.task.container.command == ("serve", "--port", "80")
    assert spec.task.limits.memory_bytes == 64 * 2**20
    assert spec.task.reservations.cpu_nanos == 500_000_000
    assert spec.replicas == 2


def test_an_update_of_what_has_changed_meanwhile_says_what(
    run: Run, control: FakeControl, web: Service
) -> None:
    def somebody_else() -> None:
        control.change_service(web, msgspec.structs.replace(SPEC, replicas=7))

    control.hooks["GetService"] = somebody_else
    result = run("service", "update", "web", "--image", "web:2", code=1)
    assert result.stderr == "error: service 'web' has changed: replicas (3, now 7)\n"
    assert control.service("web").spec.task.container.image == "web:1"


def test_an_update_whose_answer_was_lost_is_not_a_conflict_with_itself(
    run: Run, control: FakeControl, web: Service
) -> None:
    control.fail("UpdateService", grpc.StatusCode.UNAVAILABLE, done=True)
    assert run("service", "update", "web", "--force").stdout == "web: updated\n"
    assert control.service("web").spec.task.force_update == 1


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ([], "nothing to change"),
        (["--limit-memory", "12XB"], "is no size"),
        (["--reserve-cpu", "two"], "is no number of CPUs"),
        (["--restart-delay", "5"], "is no duration"),
        (["--env-add", "NOVALUE"], "write NAME=VALUE"),
        (["--args", "'open"], "no closing quotation"),
        (["--replicas", "-1"], "-1"),
    ],
)
def test_a_bad_update_is_refused_before_anything_is_asked(
    run: Run, control: FakeControl, arguments: list[str], why: str
) -> None:
    assert why in run("service", "update", "web", *arguments, code=2).stderr
    assert control.calls == []


def test_service_details(run: Run, web: Service) -> None:
    text = run("service", "inspect", "web").stdout
    assert "Image:" in text
    assert "8080->80/tcp" in text
    (full,) = rows(run("service", "inspect", "web", "--format", "json"))
    assert full["service"]["spec"]["task"]["container"]["environment"] == {"A": "1"}
    template = "{{.Service.Spec.Task.Container.Image}}"
    assert run("service", "inspect", "web", "--format", template).stdout == "web:1\n"


def test_ps_shows_the_present_and_all_shows_the_past(
    run: Run, control: FakeControl, web: Service
) -> None:
    old = control.tasks_of(web)[0]
    control.move(old, TaskState.FAILED, error="boom", exit_code=3)
    control.add_task(web, old.slot, node_id=old.node_id)
    assert len(rows(run("service", "ps", "web", "--format", "json"))) == 2
    past = run("service", "ps", "--all", "web").stdout
    assert "failed" in past
    assert "exit code 3: boom" in past


def test_services_are_removed_and_waited_for(run: Run, control: FakeControl, web: Service) -> None:
    result = run("service", "rm", "web")
    assert result.stdout == "removed web\n"
    assert "service web: gone" in result.stderr
    assert control.tasks_of(web) == []


# --- logs ---


def test_logs_go_where_they_were_written_with_the_tasks_name(
    run: Run, control: FakeControl, web: Service
) -> None:
    one, two = control.tasks_of(web)
    control.log(one, "hello")
    control.log(two, "oops", error=True)
    result = run("service", "logs", "web")
    assert result.stdout.startswith("web.1 ")
    assert result.stdout.endswith(" | hello\n")
    assert result.stderr.endswith(" | oops\n")
    assert run("service", "logs", "--raw", "web").stdout == "hello\n"
    stamped = run("service", "logs", "--raw", "-t", "web").stdout
    assert stamped == "2027-01-15T08:00:00.000+00:00 hello\n"


def test_logs_of_a_single_task_and_warnings(run: Run, control: FakeControl, web: Service) -> None:
    task = control.tasks_of(web)[0]
    control.log(task, "hello")
    control.logs.append(wire.StreamLogsMessage(warnings=["node3 does not answer"]))
    result = run("service", "logs", task.id[:6])
    assert result.stdout.endswith("hello\n")
    assert result.stderr == "warning: node3 does not answer\n"
    assert "no service 'nope'" in run("service", "logs", "nope", code=1).stderr


def test_followed_logs_go_on_after_a_break_without_repeating(
    run: Run, control: FakeControl, web: Service
) -> None:
    task = control.tasks_of(web)[0]
    control.log(task, "one", at=NOW)
    control.log(task, "two", at=NOW + 1)
    first = control.StreamLogs

    def breaks(request: Any, context: Any) -> Iterator[Any]:
        yield from first(request, context)
        if request.options.since == 0:
            context.abort(grpc.StatusCode.UNAVAILABLE, "killed")

    control.StreamLogs = breaks  # type: ignore[method-assign]
    control.stop()
    control.start()
    result = run("service", "logs", "-f", "--raw", "web")
    assert result.stdout == "one\ntwo\n"
    assert "killed; going on at another manager" in result.stderr


# --- nodes ---


def test_node_listing_details_and_update(run: Run, control: FakeControl) -> None:
    assert run("node", "ls", "--format", "{{.Name}} {{.Status}}").stdout == (
        "node1 ready\nnode2 ready\nnode3 ready\n"
    )
    assert "linux/amd64" in run("node", "inspect", "node1").stdout
    run("node", "update", "node1", "node2", "--label-add", "disk=ssd", "--label-add", "bare")
    assert control.node("node2").spec.labels == {"disk": "ssd", "bare": ""}
    run("node", "update", "node1", "--label-rm", "bare", "--availability", "pause")
    assert control.node("node1").spec.labels == {"disk": "ssd"}
    assert control.node("node1").spec.availability is Availability.PAUSE
    assert "nothing to change" in run("node", "update", "node1", code=2).stderr
    run("node", "update", "node1", "--task-slots", "8", "--reserve-for", "gpu")
    run("node", "update", "node1", "--reserve-for", "a", "--volume-add", "v", "--volume-add", "w")
    run("node", "update", "node1", "--unreserve-for", "a", "--volume-rm", "w")
    spec = control.node("node1").spec
    assert (spec.task_slots, spec.reserved_for, spec.volumes) == (8, ("gpu",), ("v",))
    text = run("node", "inspect", "node1").stdout
    assert "0 running of 0, at most 8" in text
    assert re.search(r"Reserved for: +gpu", text)
    assert re.search(r"Volumes: +v", text)
    run("node", "update", "node1", "--task-slots", "0")
    assert control.node("node1").spec.task_slots == 0
    assert run("node", "activate", "node1").stdout == "node1: active\n"
    assert run("node", "cordon", "node1").stdout == "node1: pause\n"


def test_a_drain_waits_until_the_tasks_run_elsewhere(
    run: Run, control: FakeControl, web: Service
) -> None:
    name = next(
        node.description.hostname
        for node in control.all(type(control.node("node1")))
        if any(task.node_id == node.id for task in control.tasks_of(web))
    )
    result = run("node", "drain", name)
    assert f"node {name}: empty" in result.stderr
    assert "web: 2/2 running" in result.stderr


def test_a_drain_that_cannot_finish_tells_why(run: Run, control: FakeControl, web: Service) -> None:
    control.auto = False
    result = run("node", "drain", "node2", "node3", "--timeout", "300ms", code=1)
    assert "not done after 300ms" in result.stderr


def test_nodes_are_forgotten(run: Run, control: FakeControl) -> None:
    assert run("node", "rm", "node3").stdout == "node3\n"
    assert "no node 'node3'" in run("node", "rm", "node3", code=1).stderr


# --- tasks ---


def test_task_listing_details_and_explanation(run: Run, control: FakeControl, web: Service) -> None:
    task = control.tasks_of(web)[0]
    assert len(run("task", "ls", "-q").stdout.split()) == 2
    assert len(rows(run("task", "ls", "--node", "node2", "--format", "json"))) == 1
    assert "web.1" in run("task", "inspect", task.id[:8]).stdout
    control.verdicts = [wire.NodeVerdict(node_id="n", hostname="node1", reasons=["short of cpu"])]
    text = run("task", "explain", task.id).stdout
    assert "waits for a node" in text
    assert "node1   short of cpu" in text
    assert rows(run("task", "explain", task.id, "--format", "json"))["verdicts"][0]["hostname"]


def test_an_explanation_says_why_here_what_would_help_and_how_nodes_compare(
    run: Run, control: FakeControl, web: Service
) -> None:
    task = control.tasks_of(web)[0]
    rank = [wire.RankTerm(name="empty", value=0), wire.RankTerm(name="leftover", value=0.125)]
    control.verdicts = [
        wire.NodeVerdict(node_id=f"n{number}", hostname=f"host{number}", rank=rank)
        for number in range(21)
    ] + [wire.NodeVerdict(node_id="x", hostname="far", reasons=["down", "short of cpu"])]
    control.explained = {
        "nearest": "far: down",
        "fixes": ["free 1 CPU on far", "make far active"],
        "preference": "host0 comes before host1",
    }
    lines = run("task", "explain", task.id).stdout.splitlines()
    assert "Why this node:    host0 comes before host1" in lines
    assert "Nearest:          far: down" in lines
    assert (
        lines[lines.index("What would help:  free 1 CPU on far") + 1].strip() == "make far active"
    )
    assert re.split("  +", next(line for line in lines if line.startswith("NODE"))) == [
        "NODE", "EMPTY", "LEFTOVER", "VERDICT",
    ]  # fmt: skip
    assert re.split("  +", next(line for line in lines if line.startswith("host0 "))) == [
        "host0", "0", "0.125", "would take it",
    ]  # fmt: skip
    assert lines[-1] == "and 2 nodes more: --all shows them"
    whole = run("task", "explain", "--all", task.id).stdout.splitlines()
    assert whole[-1].split(maxsplit=1) == ["far", "down; short of cpu"]
    assert run("task", "explain", task.id, "--format", '{{join .Fixes ", "}}').stdout == (
        "free 1 CPU on far, make far active\n"
    )


# --- what if ---


def test_all_that_is_imagined_is_asked_for_at_once(
    run: Run, control: FakeControl, tmp_path: Path
) -> None:
    (tmp_path / "shop.yaml").write_text(COMPOSE)
    control.outlook = wire.WhatIfResponse(tasks_staying=3)
    result = run(
        *("whatif", "--lose-node", "node1", "--lose-node", "node2", "--drain", "node3"),
        *("--lose-label", "zone=a", "--lose-label", "old", "--scale", "web=50"),
        *("-c", "shop.yaml", "--stack", "shop", "--headroom", "web", "--spare"),
    )
    asked = control.imagined
    assert list(asked.lose_nodes) == ["node1", "node2"]
    assert list(asked.drain_nodes) == ["node3"]
    assert list(asked.lose_where) == ["node.labels.zone == a", "node.labels.old exists"]
    assert dict(asked.scale) == {"web": 50}
    assert asked.stack == "shop"
    assert [spec.name for spec in asked.services] == ["shop_web", "shop_worker"]
    assert (list(asked.headroom), asked.spare) == (["web"], True)
    assert re.search(r"Without a place: +none", result.stdout)
    assert re.search(r"Staying: +3", result.stdout)
    assert re.search(r"Spare: +any one more node can be lost", result.stdout)


def test_what_would_be_is_told_with_what_is_lost_first(run: Run, control: FakeControl) -> None:
    moved = [
        wire.ImaginedTask(name=f"web.{number}", from_node="a", to_node="b") for number in range(45)
    ]
    control.outlook = wire.WhatIfResponse(
        tasks=[
            *moved,
            wire.ImaginedTask(name="new.1", to_node="c"),
            wire.ImaginedTask(name="lost.1", from_node="a", reason="no node fits"),
        ],
        tasks_ending=2,
        capacity=types_pb2.Resources(cpu_nanos=8 * 10**9, generic={"gpu": 4}),
        reserved=types_pb2.Resources(cpu_nanos=2 * 10**9, generic={"gpu": 1}),
        headroom=[
            wire.Headroom(service="web", tasks=1),
            wire.Headroom(service="db", tasks=9, more=True),
        ],
        indispensable=[wire.IndispensableNode(hostname="a", tasks=3)],
        nodes_untried=2,
    )
    lines = run("whatif", "--spare").stdout.splitlines()
    told = dict(re.split(": +", line, maxsplit=1) for line in lines if re.match(r"[^ ].*: ", line))
    assert told["Without a place"] == "1"
    assert (told["Moved"], told["New"], told["Ending"]) == ("45", "1", "2")
    assert told["CPUs"] == "2 reserved of 8 (25%)"
    assert told["gpu"] == "1 reserved of 4"
    assert told["Room for web"] == "1 more task"
    assert told["Room for db"] == "at least 9 more tasks"
    assert told["Spare"] == "not a: 3 tasks would find no place"
    assert any(line.strip() == "2 nodes with fewer tasks not tried" for line in lines)
    first = next(index for index, line in enumerate(lines) if line.startswith("TASK "))
    assert re.split("  +", lines[first + 1]) == ["lost.1", "a", "-", "no node fits"]
    assert lines[first + 2].startswith("web.0 ")
    assert lines[-1] == "and 7 tasks more: --format json has all"
    whole = rows(run("whatif", "--lose-node", "a", "--format", "json"))
    assert len(whole["tasks"]) == 47
    assert whole["headroom"][1] == {"service": "db", "tasks": 9, "more": True}


def test_imagining_nothing_is_a_slip(run: Run) -> None:
    assert "nothing to imagine" in run("whatif", code=2).stderr
    assert "write NAME=NUMBER" in run("whatif", "--scale", "web", code=2).stderr


# --- the rest ---


def test_cluster_info_and_update(run: Run, control: FakeControl) -> None:
    assert "3 ready of 3" in run("cluster", "info").stdout
    assert rows(run("cluster", "info", "--format", "json"))["nodes_ready"] == 3
    changed = run("cluster", "update", "--task-history-limit", "2")
    assert changed.stdout == "task_history_limit: 2, was 5\n"
    (stored,) = control.all(type(control.all(object)[0]))
    assert stored.spec == ClusterSpec(task_history_limit=2)
    changed = run("cluster", "update", "--strategy", "spread")
    assert changed.stdout == "strategy: spread, was binpack\n"
    assert re.search(r"Strategy: +spread", run("cluster", "info").stdout)
    assert "nothing to change" in run("cluster", "update", code=2).stderr


def test_top(run: Run, web: Service) -> None:
    assert "0.25 (12%)" in run("top").stdout
    assert rows(run("top", "--tasks", "--format", "json"))[0]["name"] == "web.1"


def test_events_tell_what_happened_and_why(run: Run, control: FakeControl) -> None:
    request = "r" * 25
    control.happen("service", "created", id="s1", name="web", why="app:1", request_id=request)
    control.happen(
        "task", "running", id="t" * 25, name="web.1", node_id="n1", node="node1", container_id="c1"
    )
    lines = run("events").stdout.splitlines()
    assert [line.partition("  ")[2] for line in lines] == [
        "service  web  created: app:1  [request rrrrrrrrrrrr]",
        "task     web.1 tttttttttttt  running on node1 in container c1",
    ]
    (last,) = run("events", "--tail", "1", "--format", "json").stdout.splitlines()
    assert json.loads(last)["event"] == "running"
    assert run("events", "--format", "{{.Name}}: {{.Why}}").stdout == "web: app:1\nweb.1: \n"
    assert "is no format" in run("events", "--format", "xml", code=2).stderr


def test_events_go_on_at_another_manager_and_none_is_told_twice(
    run: Run, control: FakeControl
) -> None:
    for number in range(4):
        control.happen("node", "down", name=f"node{number}")
    control.streams_cut = 2
    result = run("events", "--format", "{{.Name}}", "--tail", "3")
    assert result.stdout == "node1\nnode2\nnode3\n"
    assert "lost the manager" in result.stderr


def test_a_story_goes_from_the_request_to_the_container(run: Run, control: FakeControl) -> None:
    request = "r" * 25
    control.happen("service", "created", name="web", why="app:1", request_id=request)
    task = {"id": "t" * 25, "name": "web.1", "request_id": request}
    control.happen("task", "created", why="its place has no live task", **task)
    control.happen("task", "running", node="node1", node_id="n", container_id="c1", **task)
    told = [line.split("Z  ")[-1] for line in run("task", "story", "tttt").stdout.splitlines()]
    assert told == [
        f"is running on node 'node1' (task {'t' * 25})",
        "",
        f"Request {request}:",
        "service web  created: app:1",
        "",
        "The task:",
        "created: its place has no live task",
        "running on node1 in container c1",
    ]
    assert rows(run("task", "story", "tttt", "--format", "json"))["request_id"] == request
    assert "no task 'x'" in run("task", "story", "x", code=1).stderr


def test_version(run: Run, control: FakeControl) -> None:
    assert f"Manager {control.endpoint}:" in run("version").stdout
    assert rows(run("version", "--client", "--format", "json"))["managers"] == {}
    control.stop()
    gone = run("version")
    assert gone.stdout.startswith("Client:")
    assert "warning: no manager answers" in gone.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(run: Run, shell: str) -> None:
    assert "_CLUSTERCTL_COMPLETE" in run("completion", shell).stdout


def test_names_are_completed(run: Run, web: Service, control: FakeControl) -> None:
    words = {"COMP_WORDS": "clusterctl service scale w", "COMP_CWORD": "3"}
    environment = {**words, "_CLUSTERCTL_COMPLETE": "bash_complete"}
    result = CliRunner().invoke(cli, [], env=environment, prog_name="clusterctl")
    assert result.stdout == "plain,web\n"
    control.stop()
    silent = CliRunner().invoke(cli, [], env=environment, prog_name="clusterctl")
    assert silent.output.strip() == ""


def test_contexts(run: Run, control: FakeControl, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SHOAL_ENDPOINT")
    run("context", "add", "here", "--endpoint", control.endpoint)
    assert run("node", "ls", "-q").stdout.count("\n") == 3
    run("--endpoint", "127.0.0.1:1", "context", "add", "there")
    assert rows(run("context", "ls", "--format", "json")) == [
        {"name": "here", "current": True, "endpoints": [control.endpoint], "tls": False},
        {"name": "there", "current": False, "endpoints": ["127.0.0.1:1"], "tls": False},
    ]
    run("context", "use", "there")
    assert "of context 'there'" in run("node", "ls", code=1).stderr
    assert run("node", "ls", "-q", "--context", "here").stdout
    assert "did you mean 'here'" in run("context", "use", "her", code=1).stderr
    run("context", "rm", "there")
    names = [each["name"] for each in rows(run("context", "ls", "--format", "json"))]
    assert names == ["here"]


def test_the_programs_options_stand_before_or_behind_the_command(
    run: Run, control: FakeControl, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOAL_ENDPOINT", "127.0.0.1:1")
    assert run("--endpoint", control.endpoint, "node", "ls", "-q").stdout
    assert run("node", "ls", "-q", "--endpoint", control.endpoint).stdout


def test_a_slip_of_the_finger_is_told_in_two_lines(run: Run) -> None:
    result = run("service", "sclae", "web=1", code=2)
    assert result.stderr.splitlines() == [
        "error: no such command 'sclae'; did you mean 'scale'?",
        "see `clusterctl service --help`",
    ]
    unknown = run("service", "ls", "--fromat", "json", code=2)
    assert "--fromat" in unknown.stderr
    assert len(unknown.stderr.splitlines()) == 2


def test_an_unreachable_manager_is_told_in_one_line(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOAL_ENDPOINT", "127.0.0.1:1,127.0.0.1:2")
    result = run("node", "ls", code=1)
    assert result.stderr.startswith("error: no manager answers at 127.0.0.1:1 (connection refused)")
    assert "127.0.0.1:2" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_defect_of_ours_is_told_in_one_line_too(
    run: Run, control: FakeControl, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clusterctl.client.Client.nodes", lambda _: 1 / 0)
    result = run("node", "ls", code=1)
    assert result.stderr == (
        "error: ZeroDivisionError: division by zero (a defect; SHOAL_DEBUG=1 shows where)\n"
    )
    monkeypatch.setenv("SHOAL_DEBUG", "1")
    assert "Traceback" in run("node", "ls", code=1).stderr

"""What is printed: tables for people, whole values for programs, templates for scripts."""

import json
import re
from typing import Any

import click
import msgspec
import pytest
import yaml

from cluster.errors import InvalidError
from cluster.model import (
    Affinity,
    ContainerSpec,
    DisruptionBudget,
    Mount,
    MountKind,
    Node,
    NodeDescription,
    NodeId,
    Placement,
    Preferred,
    PublishedPort,
    Service,
    ServiceId,
    ServiceSpec,
    SpreadPreference,
    Strategy,
    Task,
    TaskId,
    TaskSpec,
    TaskState,
    TaskStatus,
)
from cluster.resources import Resources
from clusterctl.answers import NodeSummary, ServiceSummary, TaskDetails, TaskSummary
from clusterctl.convergence import Verdict
from clusterctl.progress import LogReporter, told
from clusterctl.render import details, kinds, people
from clusterctl.render.output import check_format, listing, single
from clusterctl.render.plain import plain
from clusterctl.render.table import clean, facts, table, width
from clusterctl.render.template import compile_template
from clusterctl.replicas import Progress

NOW = 1_800_000_000.0
WEB = ServiceSummary(
    service=Service(
        id=ServiceId("s" * 25),
        spec=ServiceSpec(
            name="web",
            task=TaskSpec(
                container=ContainerSpec(image="web:1"),
                ports=(PublishedPort(target=80, published=8080), PublishedPort(target=443)),
            ),
            replicas=3,
        ),
        created_at=NOW - 300,
        updated_at=NOW - 120,
    ),
    tasks_desired=3,
    tasks_running=2,
    tasks_current=1,
)


def task(slot: int, state: TaskState, *, at: float = NOW, node: str = "n1", **status: Any) -> Task:
    return Task(
        id=TaskId(f"task{slot}-{at:.0f}"),
        service_id=ServiceId("s" * 25),
        spec_version=1,
        slot=slot,
        node_id=NodeId(node),
        status=TaskStatus(state=state, at=at, **status),
        created_at=at,
    )


def summary(of: Task) -> TaskSummary:
    return TaskSummary(of, "web", of.node_id, "web:1")


# --- people ---


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "moments ago"),
        (1, "1 second ago"),
        (119, "1 minute ago"),
        (120, "2 minutes ago"),
        (7_300, "2 hours ago"),
        (86_400 * 9, "1 week ago"),
        (86_400 * 800, "2 years ago"),
        (-5, "moments ago"),
    ],
)
def test_times_are_told_in_their_largest_unit(seconds: float, text: str) -> None:
    assert people.ago(NOW - seconds, NOW) == text


def test_an_unknown_time_is_told_as_nothing() -> None:
    assert people.ago(0, NOW) == ""
    assert people.moment(0) == ""


def test_moments_for_programs_are_rfc_3339() -> None:
    assert people.moment(NOW + 0.25) == "2027-01-15T08:00:00.250Z"


def test_cpus_are_told_to_the_hundredth() -> None:
    assert people.cpus(666_666_666) == "0.67"
    assert people.cpus(2_000_000_000) == "2"


# --- tables ---


def test_columns_are_aligned_and_lines_have_no_space_at_their_end() -> None:
    lines = table(["NAME", "STATE"], [["a", "running"], ["longer-name", ""]]).splitlines()
    assert lines == ["NAME          STATE", "a             running", "longer-name"]


def test_wide_and_combining_signs_are_counted_as_a_terminal_shows_them() -> None:
    assert width("日本") == 4
    assert width("e\u0301") == 1
    assert table(["A", "B"], [["日本", "x"]]).splitlines()[1] == "日本   x"


def test_control_characters_cannot_forge_output() -> None:
    assert clean("a\x1b[2Jb\nc\r") == "a [2Jb c "


def test_facts_without_a_value_are_left_out() -> None:
    assert facts([("Name", "web"), ("Stack", ""), ("Labels", "a\nb")]) == (
        "Name:    web\nLabels:  a\n         b"
    )


# --- listings ---


def test_a_table_of_services() -> None:
    lines = listing(kinds.services(NOW), [WEB], "table").splitlines()
    titles = ["ID", "NAME", "MODE", "REPLICAS", "ROLLOUT", "IMAGE", "PORTS", "UPDATED"]
    assert lines[0].split() == titles
    assert lines[1].split()[:2] == ["s" * 12, "web"]
    assert "2/3 (1 outdated)" in lines[1]
    assert "8080->80/tcp, *->443/tcp" in lines[1]
    assert lines[1].endswith("2 minutes ago")


def test_an_empty_listing_still_has_its_header_and_json_its_brackets() -> None:
    assert listing(kinds.services(NOW), [], "table").startswith("ID ")
    assert json.loads(listing(kinds.services(NOW), [], "json")) == []


def test_json_and_yaml_say_the_same_in_full() -> None:
    rows = json.loads(listing(kinds.services(NOW), [WEB], "json"))
    assert rows == yaml.safe_load(listing(kinds.services(NOW), [WEB], "yaml"))
    assert rows[0]["id"] == "s" * 25
    assert rows[0]["replicas"] == "2/3"
    assert (rows[0]["running"], rows[0]["desired"], rows[0]["current"]) == (2, 3, 1)
    assert rows[0]["updated_at"] == "2027-01-15T07:58:00.000Z"


def test_quiet_prints_ids_alone_and_whole() -> None:
    assert listing(kinds.services(NOW), [WEB], "table", quiet=True) == "s" * 25 + "\n"


def test_one_object_is_no_list() -> None:
    assert json.loads(single({"a": 1}, "json")) == {"a": 1}
    assert single({"a": 1}, "{{.A}}") == "1\n"


def test_values_for_programs_have_their_defaults() -> None:
    value = plain(WEB.service)
    assert value["spec"]["task"]["restart"]["condition"] == "any"
    assert value["spec"]["task"]["container"]["command"] is None
    assert value["spec"]["task"]["ports"][1]["published"] == 0


def test_what_a_service_says_of_its_place_is_shown() -> None:
    placement = Placement(
        constraints=("node.labels.disk in (ssd)",),
        preferences=(SpreadPreference(key="node.labels.zone"), SpreadPreference(key="node.id")),
        affinities=(
            Affinity(service="db"),
            Affinity(service="web", topology="node.labels.rack", anti=True, weight=7),
        ),
        prefer=(Preferred(constraint="node.labels.gb > 4", weight=30),),
        strategy=Strategy.SPREAD,
        tolerates=("gpu", "edge"),
        stays=True,
    )
    mounts = (Mount(kind=MountKind.VOLUME, source="v", target="/v", read_only=True, bound=True),)
    spec = ServiceSpec(
        name="web",
        task=TaskSpec(
            container=ContainerSpec(image="web:1", mounts=mounts),
            reservations=Resources(cpu_nanos=10**9, generic={"gpu": 2}),
            placement=placement,
        ),
        priority=5,
        preempts=True,
        budget=DisruptionBudget(max_unavailable=2),
        gang="all",
    )
    whole = msgspec.structs.replace(WEB.service, spec=spec)
    text = details.service(ServiceSummary(whole, 1, 1, 1), NOW)
    shown = dict(re.split(": +", line, maxsplit=1) for line in text.splitlines())
    assert shown["Reserved"] == "1 CPUs, 2 gpu"
    assert shown["Mounts"] == "volume v at /v (read only, bound)"
    assert shown["Placement"] == "node.labels.disk in (ssd)"
    assert shown["Spread over"] == "node.labels.zone, then node.id"
    assert shown["Affinity"] == "db by node.id, a must"
    assert shown["Apart from"] == "web by node.labels.rack, wished for (7)"
    assert shown["Prefers"] == "node.labels.gb > 4 (30)"
    assert shown["Strategy"] == "spread"
    assert shown["Tolerates"] == "gpu, edge"
    assert shown["Stays"] == "yes"
    assert shown["Priority"] == "5, preempts lower ones"
    assert shown["Budget"] == "at most 2 unavailable"
    assert shown["Gang"] == "all"
    bare = details.service(WEB, NOW)
    assert not {"Strategy", "Stays", "Priority", "Budget", "Gang", "Affinity"} & {
        line.split(":")[0] for line in bare.splitlines()
    }


def test_generic_resources_of_a_node_and_a_task_are_shown() -> None:
    described = NodeDescription(
        capacity=Resources(generic={"gpu": 2, "licence": 3}),
        generic_items={"gpu": ("GPU-1", "GPU-2")},
        images=("web:1",),
    )
    node = NodeSummary(
        node=Node(id=NodeId("n"), description=described),
        manager_id="",
        reserved=Resources(generic={"gpu": 1}),
        tasks_running=0,
        tasks_total=0,
        usage=None,
        heard_seconds_ago=None,
    )
    shown = dict(re.split(": +", line, maxsplit=1) for line in details.node(node, NOW).splitlines())
    assert shown["gpu"] == "1 reserved of 2"
    assert shown["licence"] == "0 reserved of 3"
    assert shown["gpu names"] == "GPU-1, GPU-2"
    assert shown["Images"] == "1"
    (row,) = json.loads(listing(kinds.nodes(NOW), [node], "json"))
    assert row["generic"] == {"gpu": 2, "licence": 3}
    assert row["generic_reserved"] == {"gpu": 1}
    bound = msgspec.structs.replace(task(1, TaskState.RUNNING), generic_items={"gpu": ("GPU-2",)})
    text = details.task(TaskDetails(summary(bound), WEB.service.spec.task), NOW)
    assert "GPU-2" in text


def test_the_past_of_a_place_is_left_out_but_not_its_last_task() -> None:
    tasks = [
        summary(task(1, TaskState.FAILED, at=NOW - 9)),
        summary(task(1, TaskState.RUNNING, at=NOW - 5)),
        summary(task(2, TaskState.FAILED, at=NOW - 9)),
        summary(task(2, TaskState.FAILED, at=NOW - 5)),
        summary(task(0, TaskState.RUNNING, at=NOW, node="n1")),
        summary(task(0, TaskState.RUNNING, at=NOW, node="n2")),
    ]
    shown = [(each.task.slot, each.task.created_at - NOW) for each in kinds.present(tasks)]
    assert shown == [(0, 0), (0, 0), (1, -5), (2, -5)]


def test_a_bad_exit_code_is_told_unless_the_error_says_it() -> None:
    bad = summary(task(1, TaskState.FAILED, exit_code=3))
    assert kinds.task_error(bad) == "exit code 3"
    said = summary(task(1, TaskState.FAILED, exit_code=3, error="ended with 3"))
    assert kinds.task_error(said) == "ended with 3"
    assert kinds.task_error(summary(task(1, TaskState.COMPLETE, exit_code=0))) == ""


# --- templates ---

ROW = {
    "name": "web",
    "tasks_running": 3,
    "ok": True,
    "none": None,
    "list": ["a", "b"],
    "labels": {"Disk": "ssd"},
    "spec": {"task": {"image": "web:1"}},
}


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{.Name}} {{.TasksRunning}}", "web 3"),
        ("{{ .name }}/{{.tasks_running}}", "web/3"),
        (r"{{.Name}}\t{{.Ok}}\n", "web\ttrue\n"),
        ("{{.None}}|{{.List}}", "|a, b"),
        ("{{.Spec.Task.Image}}", "web:1"),
        ("{{.Labels.Disk}}", "ssd"),
        ("{{json .List}} {{json .Spec.Task}}", '["a", "b"] {"image": "web:1"}'),
        ("{{upper .Name}} {{lower .Name}} {{len .List}}", "WEB web 2"),
        ('{{join .List "/"}}', "a/b"),
        ("plain", "plain"),
    ],
)
def test_templates(template: str, text: str) -> None:
    assert compile_template(template)(ROW) == text


def test_a_whole_row_as_json() -> None:
    assert json.loads(compile_template("{{json .}}")(ROW)) == ROW


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("{{.Nme}}", "no field 'Nme'; did you mean 'Name'?"),
        ("{{.Name.Deeper}}", "goes too deep"),
        ("{{.Name", "without '}}'"),
        ("{{if .Name}}", "functions are json"),
        ("{{Name}}", "write {{.Field}}"),
    ],
)
def test_bad_templates_are_refused(template: str, why: str) -> None:
    with pytest.raises(InvalidError) as refusal:
        compile_template(template)(ROW)
    assert why in str(refusal.value)


def test_a_table_by_template() -> None:
    text = listing(kinds.services(NOW), [WEB], r"table {{.Name}}\t{{.Replicas}}")
    assert text.splitlines() == ["NAME   REPLICAS", "web    2/3"]


def test_a_format_that_is_none_is_refused_with_those_that_are() -> None:
    with pytest.raises(click.BadParameter, match="table, json, yaml"):
        check_format("jsno")


# --- progress ---


def test_progress_is_told_in_a_line() -> None:
    part = Progress("web", 3, 6, done=False, doing=(("starting", 2), ("to be placed", 1)))
    assert told(part) == "web: 3/6 running (2 starting, 1 to be placed)"
    gone = Progress("web", 0, 0, done=True, leaving=True)
    assert told(gone) == "web: gone"


def test_the_log_has_a_line_for_each_step_and_each_reason_once() -> None:
    lines: list[str] = []
    log = LogReporter(lines.append)

    def show(reached: int, doing: tuple[tuple[str, int], ...], why: str = "") -> None:
        waiting = ((f"web.{reached}", why),) if why else ()
        part = Progress("web", reached, 3, done=False, doing=doing, waiting=waiting)
        log.show(Verdict((part,)))

    show(1, (("starting", 2),), "cannot be placed")
    show(1, (("starting", 1),), "cannot be placed")
    show(2, (("starting", 1),), "cannot be placed")
    show(2, (("stopping", 1),))
    assert lines == [
        "web: 1/3 running (2 starting)",
        "web.1 cannot be placed",
        "web: 2/3 running (1 starting)",
        "web: 2/3 running (1 stopping)",
    ]

"""Plans and dry runs at the prompt: what is shown, what is kept to oneself, and exit codes."""

import json
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result

from cluster import codec
from cluster.api.v1 import control_pb2 as wire
from cluster.api.v1 import types_pb2
from cluster.model import (
    ContainerSpec,
    Dependency,
    DependencyCondition,
    JobSpec,
    Rollout,
    RolloutState,
    Schedule,
    ServiceMode,
    ServiceSpec,
    TaskSpec,
)
from clusterctl.answers import Plan, PlannedTask, read
from clusterctl.cli import cli
from clusterctl.render.plan import TASKS_SHOWN_MAX, plan
from tests.fakes.control import FakeControl

replace = msgspec.structs.replace
Run = Callable[..., Result]

COMPOSE = """
services:
  web:
    image: web:2
    environment: {TOKEN: correct-horse}
    deploy: {replicas: 2}
"""


@pytest.fixture
def control() -> Iterator[FakeControl]:
    with FakeControl(nodes=2) as fake:
        yield fake


@pytest.fixture
def run(control: FakeControl, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    monkeypatch.setenv("SHOAL_ENDPOINT", control.endpoint)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "compose.yaml").write_text(COMPOSE)

    def invoke(*arguments: str, code: int = 0) -> Result:
        result = CliRunner().invoke(cli, arguments, prog_name="clusterctl")
        assert result.exit_code == code, result.output
        return result

    return invoke


def spec(image: str, token: str) -> ServiceSpec:
    container = ContainerSpec(image=image, environment={"TOKEN": token})
    return ServiceSpec(
        name="demo_web", stack="demo", replicas=2, task=TaskSpec(container=container)
    )


def on_wire(value: ServiceSpec) -> types_pb2.ServiceSpec:
    return codec.to_wire(value, types_pb2.ServiceSpec)


def an_update() -> wire.PlanResponse:
    return wire.PlanResponse(
        cluster_id="c1",
        revision=41,
        services=[
            wire.PlannedService(
                effect="update",
                service_id="s1",
                name="demo_web",
                before=on_wire(spec("web:1", "old-secret")),
                after=on_wire(spec("web:2", "correct-horse")),
            )
        ],
        tasks=[
            wire.PlannedTask(
                effect="move", service="demo_web", slot=1, from_node="node1", to_node="node2"
            ),
            wire.PlannedTask(
                effect="wait", service="demo_web", slot=2, from_node="node1", why="short of 1 CPU"
            ),
        ],
        tasks_kept=3,
        complete=True,
    )


def test_a_plan_shows_what_changes_and_no_secret(run: Run, control: FakeControl) -> None:
    control.planned = an_update()
    lines = run("stack", "plan", "demo", code=2).stdout.splitlines()
    assert lines == [
        "~ service demo_web",
        "  ~ container.image: web:1 -> web:2",
        "  ~ container.environment.TOKEN (changed; values are not shown)",
        "",
        "demo_web:",
        "  ~ demo_web.1 from node1 to node2",
        "  ! demo_web.2 waits (now on node1): short of 1 CPU",
        "",
        "tasks: 1 to move, 1 without a node, 3 stay as they are",
        "at revision 41",
    ]
    asked = control.trials[0].deploy_stack
    assert (asked.name, asked.services[0].task.container.image) == ("demo", "web:2")
    assert "DeployStack" not in control.calls


def test_jobs_and_who_waits_are_shown_as_what_they_are(run: Run, control: FakeControl) -> None:
    nightly = replace(
        spec("job:1", "x"),
        name="demo_night",
        mode=ServiceMode.REPLICATED_JOB,
        job=JobSpec(completions=2, schedule=Schedule(cron="30 2 * * *")),
        depends_on=(Dependency(service="demo_db", condition=DependencyCondition.HEALTHY),),
    )
    control.planned = wire.PlanResponse(
        revision=7,
        services=[
            wire.PlannedService(
                effect="create",
                name="demo_night",
                after=on_wire(nightly),
                waits_for="service 'demo_db' to be healthy (0 of 1)",
            )
        ],
        tasks=[
            wire.PlannedTask(effect="create", service="demo_night", slot=2, to_node="n1", run=3)
        ],
        complete=True,
    )
    lines = run("stack", "plan", "demo", code=2).stdout.splitlines()
    assert lines[0] == "+ service demo_night (replicated-job)"
    for line in (
        "  + job.completions: 2",
        "  + job.schedule: cron=30 2 * * *",
        "  + depends_on: service=demo_db condition=service_healthy",
        "  ! none of its new tasks starts: it waits for service 'demo_db' to be healthy (0 of 1)",
        "  + demo_night.2 of run 3 on n1",
    ):
        assert line in lines
    found = json.loads(run("stack", "plan", "--format", "json", "demo", code=2).stdout)
    assert found["services"][0]["waits_for"].startswith("service 'demo_db'")
    assert found["tasks"][0]["run"] == 3


def test_a_plan_for_programs_keeps_secrets_too(run: Run, control: FakeControl) -> None:
    control.planned = an_update()
    text = run("stack", "plan", "--format", "json", "demo", code=2).stdout
    found = json.loads(text)
    assert found["changes"] is True
    assert found["services"][0]["differences"][0] == {
        "path": "task.container.image",
        "before": "web:1",
        "after": "web:2",
        "hidden": False,
    }
    assert "secret" not in text
    assert "horse" not in text


def test_values_are_shown_to_who_asks_for_them(run: Run, control: FakeControl) -> None:
    control.planned = an_update()
    shown = run("stack", "plan", "--show-values", "demo", code=2).stdout
    assert "container.environment.TOKEN: old-secret -> correct-horse" in shown


def test_colors_go_around_lines_and_change_no_word() -> None:
    value = read(an_update(), Plan)
    colored = plan(value, colors=True)
    bare = plan(value, colors=False)
    assert "\033[31m" in colored
    for code in ("\033[32m", "\033[33m", "\033[31m", "\033[2m", "\033[0m"):
        colored = colored.replace(code, "")
    assert colored == bare


def test_many_tasks_are_told_by_their_number() -> None:
    tasks = tuple(
        PlannedTask("create", "demo_web", slot, "", f"node{slot % 3}", "")
        for slot in range(1, 3 * TASKS_SHOWN_MAX)
    )
    shown = plan(_with_tasks(tasks), colors=False).splitlines()
    more = len(tasks) - TASKS_SHOWN_MAX
    assert f"  + and {more} tasks more to create on 3 nodes" in shown
    assert len(shown) < TASKS_SHOWN_MAX + 8


def _with_tasks(tasks: tuple[PlannedTask, ...]) -> Plan:
    return Plan("c1", 1, (), (), tasks, 0, 0.0, True, (), 0)


def test_nothing_to_do_ends_with_0(run: Run) -> None:
    assert run("stack", "plan", "demo").stdout.startswith("nothing to do")
    assert run("stack", "deploy", "--dry-run", "demo").stdout.startswith("nothing to do")


@pytest.mark.parametrize(
    ("command", "kind"),
    [
        ("stack deploy demo", "deploy_stack"),
        ("stack rm demo", "remove_stack"),
        ("service scale demo_web=3", "scale_services"),
        ("service update --image web:3 demo_web", "update_service"),
        ("service rm demo_web", "remove_services"),
        ("node drain node1", "update_node"),
        ("node rm --force node1", "remove_node"),
        ("node update --label-rm disk node1", "update_node"),
        ("node cordon node1", "update_node"),
        ("node activate node1", "update_node"),
        ("service rollback --to 1 demo_web", "rollback_services"),
        ("service promote demo_web", "steer_rollout"),
        ("service resume demo_web", "steer_rollout"),
        ("stack rollback demo", "rollback_stack"),
        ("job run demo_web", "run_job"),
    ],
)
def test_a_dry_run_changes_nothing(run: Run, control: FakeControl, command: str, kind: str) -> None:
    control.add_service(spec("web:1", "x"))
    control.planned = an_update()
    before = dict(control.objects)
    assert "move" in run(*command.split(), "--dry-run", code=2).stdout
    assert control.objects == before
    assert [each.WhichOneof("request") for each in control.trials] == [kind]


def test_a_dry_run_of_a_revert_goes_back_to_the_last_that_ran_well(
    run: Run, control: FakeControl
) -> None:
    service = control.add_service(spec("web:1", "x"))
    control.put(Rollout(service_id=service.id, state=RolloutState.UPDATING))
    control.planned = an_update()
    run("service", "revert", "--dry-run", "demo_web", code=2)
    (tried,) = control.trials
    assert [(wish.service, wish.to) for wish in tried.rollback_services.wishes] == [("demo_web", 0)]
    assert "RollbackServices" not in control.calls


def test_several_nodes_are_tried_one_after_the_other(run: Run, control: FakeControl) -> None:
    run("node", "drain", "node1", "node2", "--dry-run")
    assert [each.update_node.node for each in control.trials] == ["node1", "node2"]


def test_a_saved_plan_is_for_its_owner_and_deploys_what_it_says(
    run: Run, control: FakeControl, tmp_path: Path
) -> None:
    control.planned = an_update()
    run("stack", "plan", "--out", "demo.plan", "demo", code=2)
    assert stat.S_IMODE((tmp_path / "demo.plan").stat().st_mode) == 0o600
    (tmp_path / "compose.yaml").unlink()  # the plan says it all
    done = run("stack", "deploy", "--plan", "demo.plan", "--no-wait")
    assert "created demo_web" in done.stdout
    (pinned,) = control.pinned
    assert (pinned.cluster_id, pinned.revision) == ("c1", 41)
    assert [(each.slot, each.to_node) for each in pinned.tasks] == [(1, "node2"), (2, "")]
    (service,) = [each for name, each in control.objects.items() if name[0] == "Service"]
    assert service.spec.task.container.environment == {"TOKEN": "correct-horse"}  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"web:2"', '"web:3"'),
        ('"revision": 41', '"revision": 42'),
        ('"node2"', '"node1"'),
        ('"prune": false', '"prune": true'),
        ('"digest"', '"digist"'),
        ("{", ""),
        ("shoal-plan-1", "shoal-plan-9"),
    ],
)
def test_an_edited_plan_is_refused(
    run: Run, control: FakeControl, tmp_path: Path, old: str, new: str
) -> None:
    control.planned = an_update()
    run("stack", "plan", "--out", "demo.plan", "demo", code=2)
    path = tmp_path / "demo.plan"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    refused = run("stack", "deploy", "--plan", "demo.plan", code=1).stderr
    assert "plan again" in refused
    assert "DeployStack" not in control.calls


@pytest.mark.parametrize("more", [["--prune"], ["-c", "compose.yaml"], ["--dry-run"], ["other"]])
def test_a_plan_goes_with_nothing_else(run: Run, control: FakeControl, more: list[str]) -> None:
    run("stack", "plan", "--out", "demo.plan", "demo")
    run("stack", "deploy", "--plan", "demo.plan", *more, code=2)
    assert not control.pinned


def test_a_deploy_names_a_stack_or_a_plan(run: Run) -> None:
    assert "which stack?" in run("stack", "deploy", code=2).stderr
    assert "cannot read nope" in run("stack", "deploy", "--plan", "nope", code=1).stderr

"""Changes that are looked at before they are made, and what is told of them afterwards."""

import json
from pathlib import Path
from typing import Any

from tests.e2e.cluster import LabCluster, Seen
from tests.e2e.stacks import web
from tests.lab.waiting import wait_until

CHANGES = 2  # the exit code of a plan that has something to do


def test_a_plan_comes_true_and_is_refused_once_the_world_has_moved(
    cluster: LabCluster, tmp_path: Path
) -> None:
    saved = str(tmp_path / "plan")

    def plan(replicas: int) -> dict[str, Any]:
        told = cluster.ctl(
            *("stack", "plan", "-c", "-", "--out", saved, "--format", "json", "planned"),
            stdin=web(replicas),
            check=False,
        )
        assert told.returncode == CHANGES, told.stderr
        found: dict[str, Any] = json.loads(told.stdout)
        return found

    shown = plan(3)
    assert cluster.seen("planned_web") == []
    cluster.ctl("stack", "deploy", "--plan", saved)
    places = {(task["slot"], task["to_node"]) for task in shown["tasks"]}
    assert {(one.slot, one.host) for one in cluster.seen("planned_web")} == places

    plan(4)
    cluster.ctl("service", "scale", "planned_web=2")
    refused = cluster.ctl("stack", "deploy", "--plan", saved, check=False)
    assert refused.returncode == 1
    assert "the world has moved" in refused.stderr
    assert "service 'planned_web' has changed" in refused.stderr
    assert len(cluster.seen("planned_web")) == 2

    nothing = cluster.ctl("stack", "plan", "-c", "-", "planned", stdin=web(2))
    assert nothing.stdout.startswith("nothing to do")


def test_a_task_tells_its_story_from_the_request_to_the_container(cluster: LabCluster) -> None:
    cluster.deploy("story", web(1))
    (first,) = cluster.seen("story_web")
    request = cluster.container(first).labels["shoal.request"]
    cluster.container(first).kill()

    def successor() -> Seen | None:
        there = [one for one in cluster.seen("story_web") if one.id != first.id]
        return there[0] if there else None

    second = wait_until(successor, "a successor runs")
    assert second is not None

    def whole() -> dict[str, Any] | None:
        told: dict[str, Any] = cluster.ctl_json("task", "story", second.task)
        return told if "running" in [event["event"] for event in told["events"]] else None

    story = wait_until(whole, "its story has come to where it runs")
    assert story is not None
    assert story["request_id"] == request
    assert ("service", "created") in [(e["kind"], e["event"]) for e in story["request"]]
    before = [event for event in story["predecessors"] if event["id"] == first.task]
    assert [event["event"] for event in before][-1] == "failed"
    assert "137" in before[-1]["why"]
    steps = [event["event"] for event in story["events"]]
    assert steps[0] == "created"
    assert steps.index("assigned") < steps.index("running")
    assert second.id.startswith(
        next(event["container_id"] for event in story["events"] if event["container_id"])
    )
    same = cluster.ctl("events", "--request", request, "--kind", "task", "--format", "{{.Id}}")
    assert {first.task, second.task} <= set(same.stdout.split())

"""Rollouts on the command line: what a wait ends with, and versions shown, compared, taken back."""

import json
from typing import Any

import msgspec
import pytest

from cluster.differences import differences
from cluster.model import (
    FailureAction,
    Rollout,
    RolloutState,
    Service,
    ServiceId,
    Task,
    TaskState,
    UpdateConfig,
)
from clusterctl.convergence import Deployed, Verdict
from clusterctl.render.difference import brief, told
from tests.fakes.control import NOW, FakeControl
from tests.unit.test_clusterctl_commands import SPEC, Run, control, run, web
from tests.unit.test_clusterctl_convergence import judge, service, spec, task, version

__all__ = ["control", "run", "web"]  # fixtures

replace = msgspec.structs.replace
S = RolloutState
NEW = replace(
    spec(), task=replace(spec().task, container=replace(spec().task.container, image="web:2"))
)


def rollout(state: S, number: int = 2, message: str = "so it is", **fields: Any) -> Rollout:
    return Rollout(
        service_id=ServiceId("web-id"),
        spec_version=number,
        target=number,
        state=state,
        message=message,
        **fields,
    )


def waited(*more: Any, asked: Service | None = None, number: int = 2) -> Verdict:
    """Judge an update of two replicas whose tasks all run the new version."""
    asked = asked or service(NEW, number=number)
    tasks: list[Task] = [task(1, number=2), task(2, number=2)]
    return judge(Deployed([asked]), asked, version(spec(), 1), version(NEW, 2), *tasks, *more)


def test_that_all_run_is_not_the_end_while_the_leader_still_watches_them() -> None:
    verdict = waited(rollout(S.UPDATING))
    assert not verdict.done
    assert not verdict.failures
    assert verdict.parts[0].doing == (("watched for a while", 2),)
    assert waited(rollout(S.COMPLETED)).done
    assert waited().done, "nothing was ever rolled out"


@pytest.mark.parametrize("state", [S.PAUSED, S.ROLLED_BACK, S.ROLLBACK_PAUSED])
def test_a_rollout_that_ended_badly_ends_the_wait_with_its_reason(state: S) -> None:
    assert waited(rollout(state)).failures == ("web: so it is",)


def test_a_rollback_under_way_is_waited_for() -> None:
    verdict = waited(rollout(S.ROLLING_BACK))
    assert not verdict.done
    assert not verdict.failures


def test_the_end_of_an_earlier_rollout_says_nothing_of_this_one() -> None:
    for state in (S.COMPLETED, S.PAUSED, S.ROLLED_BACK):
        verdict = waited(rollout(state, number=1))
        assert not verdict.done
        assert not verdict.failures


def test_scaling_what_was_rolled_back_tells_that_it_was() -> None:
    asked = service(replace(NEW, replicas=2, labels={"a": "b"}), number=3)
    verdict = waited(rollout(S.ROLLED_BACK), version(asked.spec, 3), asked=asked)
    assert verdict.failures == ("web: so it is",)


def test_a_canary_that_waits_for_a_word_is_the_end_and_one_that_does_not_is_not() -> None:
    verdict = waited(rollout(S.CANARY))
    assert verdict.done
    assert verdict.parts[0].note == "web: so it is"
    by_itself = replace(NEW, update=UpdateConfig(canary=1, promote_after_seconds=60.0))
    assert not waited(rollout(S.CANARY), asked=service(by_itself, number=2)).done


def test_a_word_that_the_leader_has_not_followed_yet_is_waited_for() -> None:
    promoted = replace(service(NEW, number=2), promoted_version=2)
    assert not waited(rollout(S.CANARY), asked=promoted).done
    resumed = replace(service(NEW, number=2), resumed_at=5.0)
    assert not waited(rollout(S.PAUSED), asked=resumed).failures
    assert waited(rollout(S.PAUSED, resumed_at=5.0), asked=resumed).failures


@pytest.mark.parametrize("action", FailureAction)
def test_tasks_that_fail_are_the_leaders_business_unless_it_goes_on_regardless(
    action: FailureAction,
) -> None:
    asked = service(replace(NEW, update=UpdateConfig(failure_action=action)), number=2)
    crashes = [
        task(3, TaskState.FAILED, number=2, id=f"x{n}", failures=n, created_at=60.0 + n)
        for n in range(4)
    ]
    verdict = waited(rollout(S.UPDATING), *crashes, asked=asked)
    assert bool(verdict.failures) == (action is FailureAction.CONTINUE)


# --- commands ---


def rows(result: Any) -> Any:
    return json.loads(result.stdout)


def updated(control: FakeControl, web: Service) -> Service:
    """Give web a second version that was rolled back to the first."""
    container = replace(SPEC.task.container, image="web:2", environment={"B": "2"})
    new = control.change_service(
        web, replace(SPEC, task=replace(SPEC.task, container=container), replicas=3)
    )
    control.put(
        Rollout(
            service_id=web.id,
            spec_version=2,
            target=1,
            state=S.ROLLED_BACK,
            message="version 2 failed: rolled back to version 1",
            healthy=(1,),
            changed_at=NOW,
        )
    )
    return new


def test_the_history_tells_what_changed_and_how_it_went(
    run: Run, control: FakeControl, web: Service
) -> None:
    updated(control, web)
    new, old = rows(run("service", "history", "web", "--format", "json"))
    assert (new["version"], new["status"]) == (2, "present, rolled-back")
    assert (old["version"], old["status"]) == (1, "runs instead, ran well")
    assert "task.container.image" in new["changed"]
    table = run("service", "history", "web").stdout.splitlines()
    assert table[0].split() == ["VERSION", "CREATED", "IMAGE", "REPLICAS", "CHANGED", "STATUS"]
    assert table[1].startswith("2 ")


def test_two_versions_are_compared_field_by_field(
    run: Run, control: FakeControl, web: Service
) -> None:
    updated(control, web)
    result = run("service", "diff", "web")
    assert "version 1 -> version 2" in result.stderr
    assert [line.split() for line in result.stdout.splitlines()] == [
        ["~", "task.container.image", "web:1", "->", "web:2"],
        ["-", "task.container.environment.A", *["removed", "(values", "are", "not", "shown)"]],
        ["+", "task.container.environment.B", *["added", "(values", "are", "not", "shown)"]],
        ["~", "replicas", "2", "->", "3"],
    ]
    found = rows(run("service", "diff", "web", "2", "1", "--format", "json"))
    assert found[0] == {
        "field": "task.container.image",
        "old": "web:2",
        "new": "web:1",
        "sign": "~",
        "hidden": False,
    }
    assert [each["new"] for each in found if each["hidden"]] == [None, None]
    asked = run("service", "diff", "web", "--show-values").stdout.splitlines()
    assert asked[1].split() == ["-", "task.container.environment.A", "1"]
    assert "no difference" in run("service", "diff", "web", "1", "1").stderr
    refused = run("service", "diff", "web", "1", "9", code=1)
    assert "version 9 of service 'web' is not kept, or never was" in refused.stderr


def test_differences_are_told_in_colours_and_in_brief() -> None:
    found = list(differences(spec(), replace(NEW, replicas=5)))
    assert brief(found) == "image, replicas"
    assert "\x1b[33m~ task.container.image" in told(found)


def test_a_rollback_is_sent_told_and_waited_for(
    run: Run, control: FakeControl, web: Service
) -> None:
    updated(control, web)
    result = run("service", "rollback", "--to", "1", "--no-wait", "web")
    assert result.stdout == "web: back to version 1, as version 3\n"
    assert control.service("web").spec.task.container.image == "web:1"
    assert "never was" in run("service", "rollback", "--to", "9", "web", code=1).stderr


def test_a_revert_is_only_of_what_is_under_way(
    run: Run, control: FakeControl, web: Service
) -> None:
    updated(control, web)
    refused = run("service", "revert", "web", code=1)
    assert "no rollout of service 'web' is under way: the last is rolled-back" in refused.stderr
    old = control.objects["Rollout", web.id]
    assert isinstance(old, Rollout)
    control.put(replace(old, state=S.CANARY))
    assert "back to version 1" in run("service", "revert", "--no-wait", "web").stdout


def test_words_about_a_rollout_reach_the_service(
    run: Run, control: FakeControl, web: Service
) -> None:
    assert run("service", "promote", "--no-wait", "web").stdout == "web: promoted\n"
    assert control.service("web").promoted_version == 1
    assert run("service", "pause", "web").stdout == "web: paused\n"
    assert control.service("web").paused
    assert run("service", "resume", "--no-wait", "web").stdout == "web: resumed\n"
    assert control.service("web").resumed_at == NOW


def test_listings_show_where_a_rollout_stands(run: Run, control: FakeControl, web: Service) -> None:
    assert run("service", "ps", "web").stderr == ""
    updated(control, web)
    assert "rolled-back" in run("service", "ls").stdout
    assert rows(run("service", "ls", "--format", "json"))[0]["rollout"] == "rolled-back"
    assert "rolled back to version 1" in run("service", "inspect", "web").stdout
    shown = run("service", "ps", "web")
    assert shown.stderr == "web: rolled-back: version 2 failed: rolled back to version 1\n"


def test_a_wait_ends_with_1_when_it_was_rolled_back(
    run: Run, control: FakeControl, web: Service
) -> None:
    control.auto = False
    control.put(Rollout(service_id=web.id, spec_version=1, target=1, healthy=(1,)))
    control.hooks["UpdateService"] = lambda: control.put(
        Rollout(
            service_id=web.id,
            spec_version=2,
            target=1,
            state=S.ROLLED_BACK,
            message="version 2 failed: rolled back to version 1",
        )
    )
    result = run("service", "update", "--image", "web:9", "web", code=1)
    assert "error: service web: web: version 2 failed: rolled back to version 1" in result.stderr


def test_options_about_updates_and_rollbacks_reach_the_spec(
    run: Run, control: FakeControl, web: Service
) -> None:
    run(
        *("service", "update", "--no-wait", "web", "--update-canary", "1"),
        *("--update-promote-after", "10m", "--update-progress-deadline", "1m"),
        *("--rollback-parallelism", "0", "--rollback-order", "start-first"),
        *("--rollback-failure-action", "continue"),
    )
    spec = control.service("web").spec
    assert (spec.update.canary, spec.update.promote_after_seconds) == (1, 600.0)
    assert spec.update.progress_deadline_seconds == 60.0
    assert spec.rollback.parallelism == 0
    assert spec.rollback.order.value == "start-first"
    assert spec.rollback.failure_action is FailureAction.CONTINUE

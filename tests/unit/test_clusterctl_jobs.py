"""Jobs at the command line: what is shown, when waiting ends, and how."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result

from cluster.model import (
    ContainerSpec,
    Dependency,
    DependencyCondition,
    JobRun,
    JobSpec,
    JobStatus,
    RunCause,
    RunState,
    Schedule,
    Service,
    ServiceMode,
    ServiceSpec,
    TaskSpec,
    TaskState,
)
from clusterctl.cli import cli
from clusterctl.convergence import Deployed, RunEnded, converged
from clusterctl.follow import Update
from clusterctl.progress import told
from clusterctl.view import View
from tests.fakes.control import NOW, FakeControl

Run = Callable[..., Result]
NIGHTLY = Schedule(cron="30 2 * * *", time_zone="Europe/Vienna")


def job_spec(name: str = "batch", **fields: object) -> ServiceSpec:
    return ServiceSpec(
        name=name,
        task=TaskSpec(container=ContainerSpec(image="batch:1")),
        mode=ServiceMode.REPLICATED_JOB,
        job=JobSpec(**fields),  # type: ignore[arg-type]
    )


def run_of(number: int, state: RunState = RunState.RUNNING, **fields: object) -> JobRun:
    run = JobRun(
        number=number,
        cause=RunCause.BY_HAND,
        spec_version=1,
        state=state,
        started_at=NOW,
        ended_at=0.0 if state is RunState.RUNNING else NOW + 90.0,
        completions=3,
    )
    return msgspec.structs.replace(run, **fields)


@pytest.fixture
def control() -> Iterator[FakeControl]:
    with FakeControl() as fake:
        yield fake


@pytest.fixture
def run(control: FakeControl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SHOAL_CONFIG", str(tmp_path / "config.yaml"))
    monkeypatch.setenv("SHOAL_ENDPOINT", control.endpoint)

    def invoke(*arguments: str, code: int = 0) -> Result:
        result = CliRunner().invoke(cli, arguments, prog_name="clusterctl")
        assert result.exit_code == code, result.output
        return result

    return invoke


def test_jobs_are_listed_with_their_last_run_and_when_the_next_is_due(
    control: FakeControl, run: Run
) -> None:
    job = control.add_service(job_spec(schedule=NIGHTLY))
    control.add_service(ServiceSpec(name="web", task=TaskSpec(container=ContainerSpec(image="w"))))
    complete = run_of(4, RunState.COMPLETE, completed=3)
    skipped = run_of(5, RunState.SKIPPED, message="skipped: run 4 was under way")
    control.put(JobStatus(service_id=job.id, runs=(complete, skipped)))

    (row,) = json.loads(run("job", "ls", "--format", "json").stdout)
    assert row["name"] == "batch"
    assert row["next_due_at"].endswith(("T00:30:00.000Z", "T01:30:00.000Z"))
    assert row["last_run"]["number"] == 4
    assert "30 2 * * * Europe/Vienna" in run("job", "ls").stdout

    history = json.loads(run("job", "history", "batch", "--format", "json").stdout)
    assert [(each["number"], each["state"], each["duration_seconds"]) for each in history] == [
        (5, "skipped", 90.0),
        (4, "complete", 90.0),
    ]
    assert "3/3" in run("job", "history", "batch").stdout
    assert "is no job" in run("job", "history", "web", code=1).output


def test_a_schedule_is_suspended_and_resumed(control: FakeControl, run: Run) -> None:
    control.add_service(job_spec(schedule=NIGHTLY))
    run("job", "suspend", "batch")
    assert control.service("batch").suspended
    assert control.service("batch").spec.job.schedule == NIGHTLY
    assert "(suspended)" in run("job", "ls").stdout
    (row,) = [r for r in json.loads(run("job", "ls", "--format", "json").stdout) if r["suspended"]]
    assert row["next_due_at"] is None
    assert "was suspended already" in run("job", "suspend", "batch").stdout
    assert run("job", "resume", "batch").stdout == "batch: resumed\n"
    assert not control.service("batch").suspended
    assert "was resumed already" in run("job", "resume", "batch").stdout


@pytest.mark.parametrize(
    ("end", "code", "said"),
    [
        (run_of(1, RunState.COMPLETE, completed=3), 0, "job batch: 3/3 done"),
        (
            run_of(1, RunState.FAILED, message="completion 2 failed 4 times: boom"),
            1,
            "4 times: boom",
        ),
        (run_of(1, RunState.SKIPPED, message="skipped: run 7 was under way"), 1, "run 7 was under"),
    ],
)
def test_a_run_by_hand_is_waited_for(
    control: FakeControl, run: Run, end: JobRun, code: int, said: str
) -> None:
    job = control.add_service(job_spec(completions=3))

    def make_the_run() -> None:
        ended = msgspec.structs.replace(end, request=1)
        control.put(JobStatus(service_id=job.id, spec_version=1, runs=(run_of(9), ended)))

    control.hooks["Watch"] = make_the_run
    assert said in run("job", "run", "batch", code=code).output
    assert control.service("batch").run_requests == 1


def test_tasks_of_the_newest_run_are_listed_and_all_if_asked(
    control: FakeControl, run: Run
) -> None:
    job = control.add_service(job_spec(completions=2))
    for number in (1, 2):
        control.add_task(job, 1, TaskState.FAILED, run=number)
        control.add_task(job, 1, TaskState.COMPLETE, run=number, failures=1)
    newest = json.loads(run("job", "ps", "batch", "--format", "json").stdout)
    assert [(row["run"], row["state"]) for row in newest] == [(2, "complete")]
    assert len(json.loads(run("job", "ps", "--all", "batch", "--format", "json").stdout)) == 4


# --- what is judged ---


def view_of(control: FakeControl) -> View:
    view = View()
    view.apply(Update(control.revision, True, tuple(control.objects.values()), ()))
    return view


def test_progress_counts_completions_and_what_runs(control: FakeControl) -> None:
    job = control.add_service(job_spec(completions=10))
    control.put(JobStatus(service_id=job.id, spec_version=1, runs=(run_of(1, completions=10),)))
    for slot in (1, 2, 3):
        control.add_task(job, slot, TaskState.COMPLETE, run=1)
    for slot in (4, 5):
        control.add_task(job, slot, TaskState.RUNNING, run=1)
    (part,) = converged(view_of(control), Deployed([job])).parts
    assert told(part) == "batch: 3/10 done (2 running)"
    assert not part.done


def test_a_job_with_a_schedule_is_done_once_the_leader_knows_of_it(control: FakeControl) -> None:
    job = control.add_service(job_spec(schedule=NIGHTLY))
    (part,) = converged(view_of(control), Deployed([job])).parts
    assert not part.done
    control.put(JobStatus(service_id=job.id, spec_version=1))
    (part,) = converged(view_of(control), Deployed([job])).parts
    assert part.done
    assert told(part) == "batch: scheduled"


def test_a_run_that_was_asked_for_is_not_taken_for_another(control: FakeControl) -> None:
    job = control.add_service(job_spec())
    asked: Service = msgspec.structs.replace(job, run_requests=2)
    done = run_of(1, RunState.COMPLETE, request=1)
    control.put(JobStatus(service_id=job.id, spec_version=1, runs=(done,)))
    (part,) = converged(view_of(control), RunEnded(asked)).parts
    assert not part.done


def test_a_service_that_waits_says_what_for(control: FakeControl) -> None:
    needed = Dependency(service="batch", condition=DependencyCondition.COMPLETED)
    web = control.add_service(
        ServiceSpec(
            name="web",
            task=TaskSpec(container=ContainerSpec(image="w")),
            depends_on=(needed,),
        )
    )
    control.add_service(job_spec())
    (part,) = converged(view_of(control), Deployed([web])).parts
    assert part.waiting == (("web", "waits for job 'batch' to complete successfully"),)

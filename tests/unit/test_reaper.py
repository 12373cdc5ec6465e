"""Which versions of a service stay: what is needed, the newest, and templates that differ."""

import msgspec

from cluster.model import Rollout, Service, ServiceId, ServiceVersion, Task, TaskId
from manager.reconcilers import reaper
from manager.reconcilers.reaper import TEMPLATES_KEPT, VERSIONS_KEPT
from tests.harness.leading import service_spec

WEB = ServiceId("web")


def versions(images: list[str]) -> dict[int, ServiceVersion]:
    """Return versions from 1 on, each with another number of replicas."""
    found = {}
    for number, image in enumerate(images, 1):
        spec = service_spec(replicas=number)
        container = msgspec.structs.replace(spec.task.container, image=image)
        spec = msgspec.structs.replace(
            spec, task=msgspec.structs.replace(spec.task, container=container)
        )
        found[number] = ServiceVersion(service_id=WEB, number=number, spec=spec)
    return found


def left(
    known: dict[int, ServiceVersion], rollout: Rollout | None = None, *tasks: Task
) -> list[int]:
    newest = known[max(known)]
    service = Service(id=WEB, spec=newest.spec, spec_version=newest.number)
    plan = reaper.plan(reaper.Facts(service, tasks, known, 5, rollout))
    gone = {
        value.number
        for change in plan.changes
        for value in change.drop
        if isinstance(value, ServiceVersion)
    }
    return [number for number in known if number not in gone]


def test_the_newest_versions_stay() -> None:
    known = versions([f"app:{n}" for n in range(60)])
    assert left(known) == list(range(61 - VERSIONS_KEPT, 61))


def test_scaling_does_not_push_earlier_templates_out() -> None:
    known = versions([f"app:{n}" for n in range(30)] + ["app:29"] * 50)
    kept = left(known)
    assert len(kept) <= VERSIONS_KEPT + TEMPLATES_KEPT
    images = {known[number].spec.task.container.image for number in kept}
    assert images == {f"app:{n}" for n in range(30 - TEMPLATES_KEPT, 30)}


def test_what_a_rollout_or_a_task_names_stays() -> None:
    known = versions([f"app:{n}" for n in range(60)])
    rollout = Rollout(service_id=WEB, spec_version=3, target=4, base=5, healthy=(6, 7))
    task = Task(id=TaskId("t"), service_id=WEB, spec_version=8)
    assert left(known, rollout, task)[:6] == [3, 4, 5, 6, 7, 8]

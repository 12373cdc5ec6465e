"""I19: what a record names exists, and a name means one object.

Services are removed at once, their tasks and versions by and by: a task of a removed service
is on its way out, and its version stays for as long as it is bound.
"""

from collections.abc import Iterable, Iterator

from cluster.invariants.breach import Breach
from cluster.invariants.state import Name, State, takes_room
from cluster.model import Service, ServiceVersion, Stack, Task, TaskState

SERVICES = "services"  # the kinds of names, as the store's keys have them
STACKS = "stacks"

# What cannot be changed of a service: its tasks' places and its name's key hang on it.
_LASTING = ("name", "mode", "stack")


def task_has_its_version(state: State, task: Task) -> Iterator[Breach]:
    """Require the version that a task names, unless the task is nothing but a remainder."""
    if (task.service_id, task.spec_version) in state.versions:
        return
    needed = task.service_id in state.services and not task.status.state.finished
    if needed or takes_room(task):
        yield _breach(
            f"{state.called(task)} runs version {task.spec_version} of"
            f" '{state.service_called(task.service_id)}', which is not there",
            task.id,
            task.service_id,
        )


def task_has_a_service(state: State, task: Task) -> Iterator[Breach]:
    """Require that a task of a removed service is being removed.

    Not certain: the leader may be about to see to it.
    """
    gone = task.service_id not in state.services
    if gone and task.desired_state is not TaskState.REMOVE and not task.status.state.finished:
        yield Breach(
            "I19",
            (task.id, task.service_id),
            f"the service of {state.called(task)} was removed, yet the task is"
            f" {task.status.state.value} and to be {task.desired_state.value}; allowed only until"
            " a leader has seen it",
            certain=False,
        )


def service_is_whole(state: State, service: Service) -> Iterator[Breach]:
    """Require a service's current version and its stack."""
    name, number = service.spec.name, service.spec_version
    version = state.versions.get((service.id, number))
    if version is None:
        yield _breach(f"service '{name}' has no record of its version {number}", service.id)
    elif version.spec != service.spec:
        told = f"what the record of its version {number} says"
        yield _breach(f"service '{name}' is not {told}", service.id)
    stack = service.spec.stack
    if stack and not any(True for _ in state.stacks_named(stack)):
        yield _breach(f"service '{name}' is of stack '{stack}', which is not there", service.id)


def name_means_one_object(state: State, name: Name) -> Iterator[Breach]:
    """Require that one object at most has a name, and that its key says which."""
    named: Iterable[Service | Stack] = (
        state.services_named(name.text) if name.kind == SERVICES else state.stacks_named(name.text)
    )
    held = sorted(each.id for each in named)
    called = f"the name '{name.text}' among the {name.kind}"
    if len(held) > 1:
        yield _breach(f"{called} is that of {len(held)}: {', '.join(held)}", *held)
    if state.names is None:
        return
    means = state.names.get(name)
    if means is not None and means not in held:
        why = "which is not there or has another name"
        yield _breach(f"{called} stands for {means}, {why}", means)
    for object_id in held:
        if object_id != means:
            yield _breach(
                f"{called} stands for {means or 'nothing'}, not for {object_id}", object_id
            )


def service_goes_on(old: Service, new: Service) -> Iterator[Breach]:
    """Require of two states of a service that its number and its spec change together."""
    name = old.spec.name
    for field in _LASTING:
        if getattr(old.spec, field) != getattr(new.spec, field):
            yield _breach(f"service '{name}' has changed its {field}, which cannot change", new.id)
    before, after = old.spec_version, new.spec_version
    if after < before:
        yield _breach(f"service '{name}' went back from version {before} to {after}", new.id)
    elif after == before and new.spec != old.spec:
        yield _breach(f"service '{name}' has changed, yet is at version {after} as before", new.id)


def version_stays(state: State, old: ServiceVersion, new: ServiceVersion) -> Iterator[Breach]:
    """Require that a stored version never changes."""
    if old.spec != new.spec:
        name = state.service_called(new.service_id)
        yield _breach(f"version {new.number} of '{name}' has changed", new.service_id)


def version_is_not_needed(state: State, old: ServiceVersion) -> Iterator[Breach]:
    """Require of a version that is gone that nothing needs it."""
    for task in state.of_service(old.service_id):
        if task.spec_version == old.number:
            yield from task_has_its_version(state, task)


def _breach(text: str, *objects: str) -> Breach:
    return Breach("I19", objects, text)

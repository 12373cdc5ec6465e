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
    """Require a service's current version, its stack, and that its name is its own."""
    name = service.spec.name
    version = state.versions.get((service.id, service.spec_version))
    if version is None:
        yield _breach(
            f"service '{name}' has no record of its version {service.spec_version}", service.id
        )
    elif version.spec != service.spec:
        yield _breach(
            f"service '{name}' is not what the record of its version {service.spec_version} says",
            service.id,
        )
    if service.spec.stack and not any(True for _ in state.stacks_named(service.spec.stack)):
        yield _breach(
            f"service '{name}' is of stack '{service.spec.stack}', which is not there", service.id
        )
    others = [other.id for other in state.services_named(name) if other.id != service.id]
    if others:
        yield _breach(
            f"the name '{name}' is that of {1 + len(others)} services", service.id, *others
        )
    yield from _has_its_name(state, Name(SERVICES, name), service.id)


def stack_is_whole(state: State, stack: Stack) -> Iterator[Breach]:
    """Require that a stack's name is its own."""
    others = [other.id for other in state.stacks_named(stack.name) if other.id != stack.id]
    if others:
        yield _breach(
            f"the name '{stack.name}' is that of {1 + len(others)} stacks", stack.id, *others
        )
    yield from _has_its_name(state, Name(STACKS, stack.name), stack.id)


def name_means_its_object(state: State, name: Name) -> Iterator[Breach]:
    """Require that a name's key and the object of that name are both there, or neither."""
    object_id = (state.names or {}).get(name)
    named: Iterable[Service | Stack] = (
        state.services_named(name.text) if name.kind == SERVICES else state.stacks_named(name.text)
    )
    held = {each.id for each in named}
    if object_id is not None and object_id not in held:
        yield _breach(
            f"the name '{name.text}' among the {name.kind} stands for {object_id}, which is not"
            " there or has another name",
            object_id,
        )
    for other in held if object_id is None else ():
        yield from _has_its_name(state, name, other)


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


def _has_its_name(state: State, name: Name, object_id: str) -> Iterator[Breach]:
    if state.names is not None and state.names.get(name) != object_id:
        yield _breach(
            f"the name '{name.text}' among the {name.kind} stands for"
            f" {state.names.get(name) or 'nothing'}, not for {object_id}",
            object_id,
        )


def _breach(text: str, *objects: str) -> Breach:
    return Breach("I19", objects, text)

"""Whatever a host looks like, the reconciler brings it to what is asked, and then rests.

A little model of a host carries out the actions in a random order, while its containers end,
fall ill and vanish at random. Checked after every step: I3, I10, I18 and "a task runs once".
"""

from dataclasses import dataclass, field, replace

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from agent.reconciler import Action, Cancel, Facts, Prepare, Remove, Report, Start, Stop, plan
from agent.runtime.interface import Container, ContainerId, ContainerState, Health
from cluster.model import (
    Assignment,
    ContainerSpec,
    NodeId,
    ServiceId,
    TaskId,
    TaskSpec,
    TaskState,
    TaskStatus,
)

SERVICE = ServiceId("s")
SPEC = TaskSpec(container=ContainerSpec(image="web:1"))
IDS = [TaskId(f"t{number}") for number in range(5)]
DESIRED = [TaskState.READY, TaskState.RUNNING, TaskState.SHUTDOWN, TaskState.REMOVE]
ROUNDS_MAX = 8  # accept+prepare, start, report; stop, report, remove: six, and two to rest


def assignment(task_id: TaskId, desired: TaskState, state: TaskState) -> Assignment:
    return Assignment(
        task_id=task_id,
        service_id=SERVICE,
        service_name="web",
        spec_version=1,
        slot=1,
        node_id=NodeId("n"),
        desired_state=desired,
        state=state,
    )


@dataclass
class Host:
    """Containers, and what was reported of them."""

    assignments: dict[TaskId, Assignment] = field(default_factory=dict)
    containers: dict[ContainerId, Container] = field(default_factory=dict)
    statuses: dict[TaskId, TaskStatus] = field(default_factory=dict)
    starts: dict[TaskId, int] = field(default_factory=dict)
    is_complete: bool = True
    made: int = 0

    def facts(self) -> Facts:
        return Facts(
            now=1.0,
            is_complete=self.is_complete,
            assignments=self.assignments,
            specs={(SERVICE, 1): SPEC},
            containers=list(self.containers.values()),
            statuses=self.statuses,
        )

    def state_of(self, task_id: TaskId) -> TaskState:
        known = self.statuses.get(task_id, TaskStatus()).state
        task = self.assignments.get(task_id)
        return max(known, task.state) if task else known

    def apply(self, action: Action) -> None:
        match action:
            case Report(task_id, status):
                assert task_id in self.assignments, "only own assignments are reported"
                assert status.state > self.state_of(task_id), "states only advance (I3)"
                self.statuses[task_id] = status
            case Prepare(task, _):
                assert task.desired_state <= TaskState.RUNNING
                assert not self.state_of(task.task_id).finished
                self.prepare(task)
            case Start(task, _, container_id):
                assert task.desired_state is TaskState.RUNNING
                assert not self.state_of(task.task_id).finished, "what has finished stays so"
                self.starts[task.task_id] = self.starts.get(task.task_id, 0) + 1
                self.change(container_id, state=ContainerState.RUNNING, started_at=1.0)
            case Stop(_, container_id, _):
                assert self.is_complete, "no stop without a complete set"
                self.end(container_id, 143)
            case Remove(_, container_id):
                assert self.is_complete
                assert not self.containers[container_id].alive
                del self.containers[container_id]
            case Cancel():
                raise AssertionError("nothing was under way")

    def prepare(self, task: Assignment) -> None:
        mine = [one for one in self.containers.values() if one.task_id == task.task_id]
        if not mine:
            self.made += 1
            self.add(ContainerId(f"c{self.made}"), task.task_id, ContainerState.CREATED)
        status = TaskStatus(state=TaskState.READY)
        if status.state > self.state_of(task.task_id):
            self.statuses[task.task_id] = status

    def add(self, container_id: ContainerId, task_id: TaskId, state: ContainerState) -> None:
        self.containers[container_id] = Container(
            id=container_id,
            name=f"web.1.{task_id}",
            task_id=task_id,
            service_id=SERVICE,
            spec_version=1,
            state=state,
            exit_code=0 if state is ContainerState.EXITED else None,
        )

    def change(self, container_id: ContainerId, **changes: object) -> None:
        self.containers[container_id] = replace(
            self.containers[container_id],
            **changes,  # type: ignore[arg-type]
        )

    def end(self, container_id: ContainerId, code: int) -> None:
        if self.containers[container_id].alive:
            self.change(container_id, state=ContainerState.EXITED, exit_code=code)

    def settle(self) -> None:
        """Carry out plans until there is nothing to do."""
        for _ in range(ROUNDS_MAX):
            actions = plan(self.facts())
            if not actions:
                return
            for action in actions:
                self.apply(action)
        raise AssertionError(f"still busy after {ROUNDS_MAX} rounds: {plan(self.facts())}")

    def check_settled(self) -> None:
        for task_id, task in self.assignments.items():
            mine = [one for one in self.containers.values() if one.task_id == task_id]
            alive = [one for one in mine if one.alive]
            state = self.state_of(task_id)
            assert len(mine) <= 1
            if state.finished:
                assert not alive
            elif task.desired_state is TaskState.RUNNING:
                assert len(alive) == 1
                assert state >= TaskState.STARTING
            else:
                assert task.desired_state is TaskState.READY
                assert state >= TaskState.READY
                assert mine
            if task.desired_state is TaskState.REMOVE:
                assert not mine
        owned = {one.task_id for one in self.containers.values()}
        assert owned <= self.assignments.keys(), "orphans are removed"


assignments = st.builds(
    assignment,
    st.sampled_from(IDS),
    st.sampled_from(DESIRED),
    st.sampled_from([state for state in TaskState if state >= TaskState.ASSIGNED]),
)
containers = st.tuples(st.sampled_from(IDS), st.sampled_from(list(ContainerState)))


@given(st.lists(assignments, max_size=5), st.lists(containers, max_size=6))
@settings(max_examples=300, deadline=None)
def test_any_host_converges_and_then_rests(
    wanted: list[Assignment], there: list[tuple[TaskId, ContainerState]]
) -> None:
    host = Host(assignments={task.task_id: task for task in wanted})
    for number, (task_id, state) in enumerate(there):
        host.add(ContainerId(f"x{number}"), task_id, state)

    host.settle()

    host.check_settled()
    assert plan(host.facts()) == []


class ManyLives(RuleBasedStateMachine):
    """Assignments come and go, containers live and die; the agent acts now and then."""

    def __init__(self) -> None:
        super().__init__()
        self.host = Host()

    @rule(task_id=st.sampled_from(IDS), desired=st.sampled_from(DESIRED[:2]))
    def assign(self, task_id: TaskId, desired: TaskState) -> None:
        # An id is never used twice.
        if task_id not in self.host.assignments and task_id not in self.host.starts:
            self.host.assignments[task_id] = assignment(task_id, desired, TaskState.ASSIGNED)

    @rule(task_id=st.sampled_from(IDS), desired=st.sampled_from(DESIRED))
    def desire(self, task_id: TaskId, desired: TaskState) -> None:
        task = self.host.assignments.get(task_id)
        if task is not None and desired > task.desired_state:
            self.host.assignments[task_id] = msgspec.structs.replace(task, desired_state=desired)

    @rule(task_id=st.sampled_from(IDS))
    def drop(self, task_id: TaskId) -> None:
        if self.host.assignments.pop(task_id, None) is not None:
            self.host.statuses.pop(task_id, None)
            self.host.starts.setdefault(task_id, 0)

    @rule(data=st.data(), code=st.sampled_from([0, 1, 137]))
    def die(self, data: st.DataObject, code: int) -> None:
        if self.host.containers:
            self.host.end(data.draw(st.sampled_from(sorted(self.host.containers))), code)

    @rule(data=st.data(), health=st.sampled_from(list(Health)))
    def feel(self, data: st.DataObject, health: Health) -> None:
        if self.host.containers:
            container_id = data.draw(st.sampled_from(sorted(self.host.containers)))
            if self.host.containers[container_id].alive:
                self.host.change(container_id, health=health)

    @rule(data=st.data())
    def vanish(self, data: st.DataObject) -> None:
        """Lose a container; not one that nothing else tells of (see above)."""
        traced = [
            key
            for key, one in self.host.containers.items()
            if not self.host.starts.get(one.task_id)
            or self.host.state_of(one.task_id) >= TaskState.STARTING
        ]
        if traced:
            del self.host.containers[data.draw(st.sampled_from(sorted(traced)))]

    @rule(data=st.data())
    def restart_the_agent(self, data: st.DataObject) -> None:
        """Forget what was reported; the manager has stored some of it.

        What neither a container nor a stored report tells of is lost to all: then a task may
        run twice, and nobody can know.
        """
        there = {one.task_id for one in self.host.containers.values()}
        for task_id, status in self.host.statuses.items():
            if task_id not in there or data.draw(st.booleans()):
                task = self.host.assignments[task_id]
                self.host.assignments[task_id] = msgspec.structs.replace(
                    task, state=max(task.state, status.state)
                )
        self.host.statuses.clear()

    @rule(data=st.data())
    def act_a_little(self, data: st.DataObject) -> None:
        actions = plan(self.host.facts())
        if actions:
            self.host.apply(data.draw(st.sampled_from(actions)))

    @rule()
    def act_until_all_is_well(self) -> None:
        self.host.settle()
        self.host.check_settled()

    @invariant()
    def a_task_runs_once(self) -> None:
        assert all(count <= 1 for count in self.host.starts.values())


ManyLives.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
test_many_lives = ManyLives.TestCase

"""The cases that need containers: starting, recovering, being told.

Every clock starts just before the first word to the cluster (or the blow to it) and stops when
a manager tells a watcher that all is as it should be.
"""

import random
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from time import monotonic

from cluster.lifecycle import live
from cluster.model import Availability, NodeId, Task, TaskSpec, TaskState, UpdateConfig
from clusterctl import asked
from clusterctl.view import View
from scripts.lib.steps import TREE
from tests.bench.direct import remove
from tests.bench.report import Goal, Result, Samples
from tests.bench.rig import BRIDGE, HOST, NEXT, SERVICE, STACK, Rig
from tests.bench.watcher import all_run, all_updated, client_of, tasks_of

MANY = 30
"""Ten on each host."""

FEW = 10
STEP = 3  # how many more and fewer the case of the waiting command asks for

Case = Callable[[Rig], list[Result]]


@dataclass
class Taken:
    """Samples while they are taken."""

    seconds: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)

    def take(self, seconds: float, cpu_s: float) -> str:
        """Keep a sample; return it in words."""
        self.seconds.append(seconds)
        self.cpu_s.append(cpu_s)
        return f"{seconds:.2f} s, {cpu_s:.1f} s of CPU"

    @property
    def samples(self) -> Samples:
        return Samples(tuple(self.seconds), tuple(self.cpu_s))


def start(name: str, task: TaskSpec, swarm_s: float, rig: Rig) -> list[Result]:
    """Start 30 replicas; in turns, the same containers directly."""
    ours, direct, phases = Taken(), Taken(), []

    def deploy() -> None:
        used = rig.cpu_meter()
        asked_at = rig.submit(task, MANY)
        seconds = rig.watcher.wait_running(SERVICE, MANY) - asked_at
        sample = ours.take(seconds, used())
        phases.append(rig.watcher.phases(asked_at))
        rig.say(f"{sample}; the last of 30 {_told(phases[-1])}")
        rig.clear()

    _in_turns(rig.runs, deploy, partial(_directly, rig, direct, task, MANY, len(rig.hosts)))
    return [
        Result(
            case=name,
            what="30 replicas over 3 hosts: from the request until a manager tells 30/30 running",
            samples=ours.samples,
            compared_with="the same containers created and started through Docker's API,"
            f" {rig.direct.threads_per_host} threads a host",
            baseline=direct.samples,
            goal=Goal(1.15, is_ratio=True),
            swarm=swarm_s,
            notes={"last_task_reached_s": phases},
        )
    ]


def stack(name: str, network_mode: str, rig: Rig) -> list[Result]:
    """Deploy a file of five services from the command line."""
    ours, direct = Taken(), Taken()
    mode = f", network_mode: {network_mode}" if network_mode else ""
    lines = [
        f"  s{i}: {{image: shoal-test/app:1, deploy: {{replicas: 2}}{mode}}}" for i in range(5)
    ]
    file = rig.cluster.operator.folder / "bench.yaml"
    file.write_text("\n".join(["services:", *lines, ""]))

    def all_ten(view: View) -> bool:
        return all(all_run(view, f"{STACK}_s{i}", 2) for i in range(5))

    def deploy() -> None:
        used = rig.cpu_meter()
        began_at = monotonic()
        command = _command(rig, "stack", "deploy", "--no-wait", "-c", str(file), STACK)
        seconds = rig.watcher.wait(all_ten, "5 services of 2 run") - began_at
        sample = ours.take(seconds, used())
        _finish(command)
        rig.say(f"{sample}; the last of 10 {_told(rig.watcher.phases(began_at))}")
        rig.clear()

    _in_turns(rig.runs, deploy, partial(_directly, rig, direct, BRIDGE, FEW, len(rig.hosts)))
    return [
        Result(
            case=name,
            what="`clusterctl stack deploy` of 5 services x 2: from the start of the command until"
            " a manager tells 10/10 running",
            samples=ours.samples,
            compared_with="10 containers on the default bridge through Docker's API",
            baseline=direct.samples,
            goal=Goal(1.5),
            swarm=1.50,
        )
    ]


def container_killed(rig: Rig) -> list[Result]:
    """Kill a container of a service of ten; its slot has a running task again."""
    ours, direct = Taken(), Taken()
    rig.run(BRIDGE, FEW)

    def strike() -> None:
        victim = random.choice([t for t in tasks_of(rig.watcher.view, SERVICE) if live(t)])
        host = rig.cluster.host_named(rig.watcher.view.hostname(victim.node_id))
        used = rig.cpu_meter()
        began_at = monotonic()
        host.docker.api.kill(victim.status.container_id)
        seconds = rig.watcher.wait(partial(_is_replaced, victim), "it is replaced") - began_at
        sample = ours.take(seconds, used())
        rig.say(f"{sample}; the new task {_told(rig.watcher.phases(began_at))}")

    def compare() -> None:
        used = rig.cpu_meter()
        seconds, made = rig.direct.replace(BRIDGE, random.choice(rig.hosts))
        rig.say(f"{direct.take(seconds, used())}, directly")
        remove(made)

    _in_turns(rig.runs, strike, compare)
    rig.clear()
    return [
        Result(
            case="container-killed",
            what="SIGKILL to a container of a service of 10: from before the kill until a manager"
            " tells 10/10 running, with the restart policy's defaults",
            samples=ours.samples,
            compared_with="kill, wait, create, start through Docker's API",
            baseline=direct.samples,
            goal=Goal(1.0),
            swarm=5.56,
        )
    ]


@dataclass(frozen=True, slots=True)
class HostKilled:
    """Cut a host's power, with the leading manager's process or without."""

    name: str
    goal_s: float
    swarm_s: float
    with_leader: bool

    def __call__(self, rig: Rig) -> list[Result]:
        ours, direct = Taken(), Taken()
        lost: list[int] = []
        compare = partial(_directly, rig, direct, BRIDGE, FEW, len(rig.hosts) - 1)
        _in_turns(rig.runs, partial(self._strike, rig, ours, lost), compare)
        also = ", its leading manager killed at the same moment" if self.with_leader else ""
        return [
            Result(
                case=self.name,
                what=f"a host with 10 of 30 tasks loses power{also}: from before that until a"
                " manager tells 30/30 running on the other two, with default settings",
                samples=ours.samples,
                compared_with="10 containers over 2 hosts through Docker's API",
                baseline=direct.samples,
                goal=Goal(self.goal_s),
                swarm=self.swarm_s,
                notes={"tasks_lost": lost},
            )
        ]

    def _strike(self, rig: Rig, ours: Taken, lost: list[int]) -> None:
        rig.run(BRIDGE, MANY)
        victim = random.choice(rig.hosts)
        node_id = rig.watcher.node_named(victim.name)
        lost.append(sum(t.node_id == node_id for t in tasks_of(rig.watcher.view, SERVICE)))
        leader = rig.cluster.leading_host() if self.with_leader else None

        is_whole = partial(_is_whole_off, node_id)
        used = rig.cpu_meter()
        began_at = monotonic()
        if leader is not None:
            rig.cluster.managers[leader.name].kill()
        victim.crash()
        seconds = rig.watcher.wait(is_whole, "30 run on the other hosts") - began_at
        sample = ours.take(seconds, used())
        rig.say(f"{sample}; the last of {lost[-1]} new {_told(rig.watcher.phases(began_at))}")
        rig.mend()


@dataclass(frozen=True, slots=True)
class Update:
    """Replace the ten tasks of a service, so many at a time."""

    parallelism: int
    goal_s: float
    swarm_s: float

    def __call__(self, rig: Rig) -> list[Result]:
        ours, direct = Taken(), Taken()
        _in_turns(rig.runs, partial(self._roll, rig, ours), partial(self._directly, rig, direct))
        return [
            Result(
                case=f"update-{self.parallelism}",
                what=f"a rolling update of 10 replicas, {self.parallelism} at a time, stop-first,"
                " no delay, no monitor: from the request until a manager tells 10/10 running the"
                " new version",
                samples=ours.samples,
                compared_with="the same stops, creations and starts through Docker's API,"
                f" {self.parallelism} at a time",
                baseline=direct.samples,
                goal=Goal(self.goal_s),
                swarm=self.swarm_s,
            )
        ]

    def _roll(self, rig: Rig, ours: Taken) -> None:
        rig.run(BRIDGE, FEW)
        rig.watcher.wait(lambda view: bool(view.rollouts), "the first version has run well")
        update = UpdateConfig(parallelism=self.parallelism, monitor_seconds=0.0)
        used = rig.cpu_meter()
        asked_at = rig.submit(NEXT, FEW, update)
        image = NEXT.container.image
        ended_at = rig.watcher.wait(
            lambda view: all_updated(view, SERVICE, FEW, image), "10 run the new version"
        )
        sample = ours.take(ended_at - asked_at, used())
        rig.say(f"{sample}; the last of 10 {_told(rig.watcher.phases(asked_at))}")
        rig.clear()

    def _directly(self, rig: Rig, direct: Taken) -> None:
        used = rig.cpu_meter()
        seconds, made = rig.direct.update(BRIDGE, NEXT, FEW, rig.hosts, self.parallelism)
        rig.say(f"{direct.take(seconds, used())}, directly")
        remove(made)


def drain(rig: Rig) -> list[Result]:
    """Drain a host that has ten of thirty tasks."""
    ours, direct = Taken(), Taken()
    compare = partial(_directly, rig, direct, BRIDGE, FEW, len(rig.hosts) - 1)
    _in_turns(rig.runs, partial(_drain, rig, ours), compare)
    return [
        Result(
            case="drain",
            what="a host with 10 of 30 tasks is drained: from the request until a manager tells"
            " 30/30 running on the other two",
            samples=ours.samples,
            compared_with="10 containers over 2 hosts through Docker's API",
            baseline=direct.samples,
            goal=Goal(2.5),
            swarm=2.72,
        )
    ]


def _drain(rig: Rig, ours: Taken) -> None:
    rig.run(BRIDGE, MANY)
    node_id = rig.watcher.node_named(random.choice(rig.hosts).name)
    used = rig.cpu_meter()
    began_at = monotonic()
    rig.client.update_node(asked.update_node(node_id, availability=Availability.DRAIN))
    seconds = rig.watcher.wait(partial(_is_whole_off, node_id), "30 run elsewhere") - began_at
    sample = ours.take(seconds, used())
    rig.say(f"{sample}; the last of 10 {_told(rig.watcher.phases(began_at))}")
    rig.client.update_node(asked.update_node(node_id, availability=Availability.ACTIVE))
    rig.clear()


def leader_killed(rig: Rig) -> list[Result]:
    """Kill the leading manager and scale at once, as somebody who notices nothing."""
    accepted, converged = [], []
    for _ in range(rig.runs):
        rig.run(BRIDGE, FEW)
        leader = rig.cluster.leading_host()
        assert leader is not None
        began_at = monotonic()
        rig.cluster.managers[leader.name].kill()
        client = client_of(rig.cluster.endpoints)
        client.scale_services({SERVICE: FEW + 1})
        accepted.append(monotonic() - began_at)
        converged.append(rig.watcher.wait_running(SERVICE, FEW + 1) - began_at)
        client.caller.close()
        told = _told(rig.watcher.phases(began_at))
        rig.say(
            f"accepted after {accepted[-1]:.2f} s, converged after {converged[-1]:.2f} s; {told}"
        )
        rig.mend()
    what = "SIGKILL to the leading manager of two, then scale 10 to 11: from before the kill until"
    return [
        Result(
            case="leader-killed-accepted",
            what=f"{what} the other manager has stored the request",
            samples=Samples(accepted),
            goal=Goal(3.0),
            swarm=13.8,
        ),
        Result(
            case="leader-killed-converged",
            what=f"{what} a manager tells 11/11 running",
            samples=Samples(converged),
            goal=Goal(3.0),
        ),
    ]


def command_waits(rig: Rig) -> list[Result]:
    """Scale up and down from the command line, which waits."""
    tails, whole = [], []
    rig.run(HOST, FEW)
    for i in range(rig.runs):
        count = FEW if i % 2 else FEW + STEP
        began_at = monotonic()
        command = _command(rig, "service", "scale", f"{SERVICE}={count}")
        converged_at = rig.watcher.wait(partial(_is_settled, count), f"{count} are left alone")
        _finish(command)
        ended_at = monotonic()
        tails.append(max(0.0, ended_at - converged_at))
        whole.append(round(ended_at - began_at, 3))
        rig.say(f"{tails[-1]:.3f} s after convergence, {whole[-1]:.2f} s after its start")
    rig.clear()
    return [
        Result(
            case="wait",
            what="`clusterctl service scale`, which waits: from convergence, as a manager tells a"
            " watcher, to the end of the command's process",
            samples=Samples(tails),
            goal=Goal(0.3),
            swarm=5.0,
            notes={"whole_command_s": whole},
        )
    ]


# --- parts ---


def _in_turns(runs: int, one: Callable[[], None], other: Callable[[], None]) -> None:
    """Do both *runs* times; who is first changes, so that a drift of the machine favours none."""
    for i in range(runs):
        for act in (one, other) if i % 2 == 0 else (other, one):
            act()


def _directly(rig: Rig, taken: Taken, task: TaskSpec, count: int, hosts: int) -> None:
    used = rig.cpu_meter()
    seconds, made = rig.direct.start(task, count, rig.hosts[:hosts])
    rig.say(f"{taken.take(seconds, used())}, directly")
    remove(made)


def _told(phases: dict[str, float]) -> str:
    return ", ".join(f"{state} at {at:.2f}" for state, at in phases.items())


def _is_whole_off(node_id: NodeId, view: View) -> bool:
    """Tell whether all thirty run, and none on that node."""
    holders = [task for task in tasks_of(view, SERVICE) if live(task)]
    return all_run(view, SERVICE, MANY) and all(task.node_id != node_id for task in holders)


def _is_replaced(victim: Task, view: View) -> bool:
    tasks = tasks_of(view, SERVICE)
    held = next((t for t in tasks if t.slot == victim.slot and live(t)), None)
    return held is not None and held.id != victim.id and all_run(view, SERVICE, FEW)


def _is_settled(count: int, view: View) -> bool:
    """Tell whether *count* tasks run, and those that were to stop have stopped."""
    others = [task for task in tasks_of(view, SERVICE) if not live(task)]
    return all_run(view, SERVICE, count) and all(
        task.status.state >= TaskState.COMPLETE for task in others
    )


def _command(rig: Rig, *arguments: str) -> "subprocess.Popen[bytes]":
    """Start clusterctl; we are in the operator's network already."""
    return subprocess.Popen(
        [sys.executable, "-m", "clusterctl", "--endpoint", rig.cluster.endpoints, *arguments],
        cwd=TREE,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def _finish(command: "subprocess.Popen[bytes]") -> None:
    _, errors = command.communicate()
    if command.returncode != 0:
        raise RuntimeError(f"clusterctl ended with {command.returncode}: {errors.decode()}")


CASES: dict[str, Case] = {
    "start-bridge": partial(start, "start-bridge", BRIDGE, 3.55),
    "start-host": partial(start, "start-host", HOST, 1.53),
    "stack-deploy": partial(stack, "stack-deploy", "bridge"),
    "stack-deploy-own-network": partial(stack, "stack-deploy-own-network", ""),
    "container-killed": container_killed,
    "host-killed": HostKilled("host-killed", 5.0, 19.4, with_leader=False),
    "leader-killed": leader_killed,
    "host-and-leader-killed": HostKilled("host-and-leader-killed", 10.0, 46.8, with_leader=True),
    "wait": command_waits,
    "update-2": Update(2, goal_s=6.0, swarm_s=8.6),
    "update-10": Update(10, goal_s=2.5, swarm_s=2.75),
    "drain": drain,
}

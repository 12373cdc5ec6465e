"""What runs in a simulated cluster: programs, and the services that use them."""

import random
from collections.abc import Hashable, Mapping, Sequence

import msgspec

from agent.runtime.interface import EngineInfo, Health
from cluster.model import (
    Affinity,
    Concurrency,
    ContainerSpec,
    Dependency,
    DependencyCondition,
    DisruptionBudget,
    FailureAction,
    JobSpec,
    LostNode,
    LostNodePolicy,
    Mount,
    MountKind,
    NetworkAttachment,
    Placement,
    Platform,
    PublishedPort,
    RestartCondition,
    RestartPolicy,
    Schedule,
    ServiceMode,
    ServiceSpec,
    TaskSpec,
    UpdateConfig,
    UpdateOrder,
)
from cluster.resources import Resources
from tests.fakes.runtime import Program
from tests.simulator.scaling import LOAD, range_to

CPU = 1_000_000_000
GIB = 1 << 30

ZONES = ("red", "green", "blue")

WELL = ((2.0, Health.HEALTHY),)

PROGRAMS: Mapping[Hashable, Program] = {
    "web": Program(),
    "checked": Program(health=WELL, start_seconds=0.2, stop_seconds=0.5),
    "slow": Program(start_seconds=3.0, stop_seconds=5.0, health=((15.0, Health.HEALTHY),)),
    "stubborn": Program(ignores_stop=True),
    "flaky": Program(runs_seconds=40.0, exit_code=1),
    "ill": Program(health=(*WELL, (60.0, Health.UNHEALTHY))),
    "job": Program(runs_seconds=30.0),
    "broken": Program(runs_seconds=0.1, exit_code=127),
    "batch": Program(runs_seconds=20.0),
    "bad-batch": Program(runs_seconds=5.0, exit_code=1),
}

# What comes to its end in a healed cluster too.
BATCHES = ("batch", "batch", "bad-batch")

# Of jobs by the clock, what becomes of a run that is due while another is under way.
TICKS = ("allow", "forbid", "replace")

ABSENT = "absent"  # an image that is in no registry while there is a storm

IMAGES = tuple(map(str, PROGRAMS))

# Those that go on for ever if nobody hinders them, and how often each is drawn.
STEADY = ("web", "web", "checked", "checked", "slow", "stubborn")
UNSTEADY = ("flaky", "ill", "broken", ABSENT)

# Of the names that operators give to services of no stack.
SERVICES = 10

REPLICAS_MAX = 10
GRACE_SECONDS = (2.0, 10.0)

GANGS = ("g0", "g1")

# What becomes of a service's tasks whose node is lost, and how long its lease or patience may be.
LOST_NODE = (*(7 * ["replace"]), "wait", "fence", "fence")
LOST_SECONDS = (10.0, 20.0, 60.0)


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """A service as an operator wants it: in a few plain values, so that a list of faults holds it.

    Attributes:
        number: raised by an update that changes nothing else.
        delay_seconds, turn_seconds: before a restart; between one place and the next in an update.
        priority, preempts: who is placed first, and whether others make way.
        budget: how many of its tasks may be taken away for the sake of others; negative: a quarter.
        gang: with the others of that name it is placed together or not at all.
        canary, promote_seconds: places updated first, and when the others follow by themselves.
        ratio: of failures that an update bears.
        near, apart_by: a service whose tasks its own must be near; what they share with none of
            their own kin.
        port: published on the host; 0: none.
        device, volume: one of a generic resource that it needs; a bound volume that it has.
        most, load: up to how many tasks it scales itself, 0: it does not; how many its load is worth.
        tolerates: for whom hosts are set aside that it may run on.
        is_job: one of so many completions as ``replicas``.
        lost_node, lost_seconds: what becomes of tasks whose node is lost; in which time.
        retries: of each completion of a job.
        cron, concurrency: when a job runs by itself, and whether its runs may overlap.
        needs, condition_needed: a service of the same stack that it depends on, and how.
    """

    name: str
    stack: str = ""
    program: str = "web"
    replicas: int = 1
    is_global: bool = False
    cpus: float = 0.1
    memory_mib: int = 64
    zone: str = ""
    near: str = ""
    apart_by: str = ""
    port: int = 0
    device: str = ""
    volume: str = ""
    tolerates: str = ""
    most: int = 0
    load: float = 0.0
    per_node: int = 0
    network: bool = False
    parallelism: int = 1
    start_first: bool = False
    failure_action: str = "pause"
    monitor_seconds: float = 5.0
    delay_seconds: float = 0.0
    turn_seconds: float = 0.0
    priority: int = 0
    preempts: bool = False
    budget: int = -1
    gang: str = ""
    canary: int = 0
    promote_seconds: float = 0.0
    ratio: float = 0.0
    condition: str = "any"
    grace_seconds: float = 10.0
    lost_node: str = "replace"
    lost_seconds: float = 0.0
    number: int = 0
    is_job: bool = False
    at_a_time: int = 0
    retries: int = 3
    cron: str = ""
    concurrency: str = "forbid"
    needs: str = ""
    condition_needed: str = "service_started"

    def spec(self) -> ServiceSpec:
        name = f"{self.stack}_{self.name}" if self.stack else self.name
        return ServiceSpec(
            name=name,
            stack=self.stack,
            mode=self._mode(),
            replicas=1 if self.is_job else self.replicas,
            job=self._job() if self.is_job else JobSpec(),
            depends_on=self._depends_on(),
            priority=self.priority,
            preempts=self.preempts,
            budget=DisruptionBudget(self.budget if self.budget >= 0 else None),
            gang=self.gang,
            autoscale=range_to(self.most) if self.most else None,
            update=UpdateConfig(
                parallelism=self.parallelism,
                order=UpdateOrder.START_FIRST if self.start_first else UpdateOrder.STOP_FIRST,
                failure_action=FailureAction(self.failure_action),
                monitor_seconds=self.monitor_seconds,
                delay_seconds=self.turn_seconds,
                canary=self.canary,
                promote_after_seconds=self.promote_seconds,
                max_failure_ratio=self.ratio,
            ),
            task=TaskSpec(
                container=ContainerSpec(
                    image=self.program,
                    environment=self._environment(),
                    stop_grace_seconds=self.grace_seconds,
                    mounts=self._mounts(),
                ),
                reservations=Resources(
                    cpu_nanos=round(self.cpus * CPU),
                    memory_bytes=self.memory_mib << 20,
                    generic={self.device: 1} if self.device else {},
                ),
                networks=(NetworkAttachment(network=f"{name}_net"),) if self.network else (),
                ports=(PublishedPort(target=80, published=self.port),) if self.port else (),
                restart=RestartPolicy(
                    condition=RestartCondition(self.condition), delay_seconds=self.delay_seconds
                ),
                placement=Placement(
                    constraints=(f"node.labels.zone == {self.zone}",) if self.zone else (),
                    max_replicas_per_node=self.per_node,
                    affinities=self._affinities(name),
                    tolerates=(self.tolerates,) if self.tolerates else (),
                ),
                lost_node=LostNode(LostNodePolicy(self.lost_node), self.lost_seconds),
            ),
        )

    def _affinities(self, name: str) -> tuple[Affinity, ...]:
        near = Affinity(service=self.near)
        apart = Affinity(service=name, topology=self.apart_by, anti=True)
        wanted = ((near, self.near), (apart, self.apart_by and self.near != name))  # never both
        return tuple(affinity for affinity, is_wanted in wanted if is_wanted)

    def _environment(self) -> dict[str, str]:
        load = {LOAD: str(self.load)} if self.most else {}
        return {"NUMBER": str(self.number), **load}

    def _mounts(self) -> tuple[Mount, ...]:
        kind, source = MountKind.VOLUME, self.volume
        return (Mount(kind=kind, source=source, target="/data", bound=True),) if source else ()

    def _mode(self) -> ServiceMode:
        if self.is_job:
            return ServiceMode.GLOBAL_JOB if self.is_global else ServiceMode.REPLICATED_JOB
        return ServiceMode.GLOBAL if self.is_global else ServiceMode.REPLICATED

    def _job(self) -> JobSpec:
        concurrency = Concurrency(self.concurrency)
        return JobSpec(
            completions=self.replicas,
            max_concurrent=self.at_a_time,
            retries=self.retries,
            schedule=Schedule(cron=self.cron, concurrency=concurrency) if self.cron else None,
        )

    def _depends_on(self) -> tuple[Dependency, ...]:
        if not self.needs:
            return ()
        condition = DependencyCondition(self.condition_needed)
        return (Dependency(service=f"{self.stack}_{self.needs}", condition=condition),)


def service_name(number: int) -> str:
    """Return a name that cannot be the beginning of an id."""
    return f"svc-{number}"


def drawn(source: random.Random, name: str, *, stack: str = "", steady: bool = False) -> Wish:
    """Return a service of any kind."""
    program = source.choice(STEADY)
    if not steady and source.random() < 0.15:
        program = source.choice((*UNSTEADY, "job"))
    is_global = source.random() < 0.1
    lost_node = source.choice(LOST_NODE) if not is_global else "replace"
    is_fenced = lost_node == "fence"
    replicas = source.randint(1, REPLICAS_MAX)
    canary = source.randint(1, min(2, replicas)) if source.random() < 0.2 else 0
    priority = source.choice((0, 0, 0, 0, 1, 2))
    gang = source.choice(GANGS) if not is_global and source.random() < 0.1 else ""
    return Wish(
        name=name,
        stack=stack,
        program=program,
        replicas=replicas,
        is_global=is_global,
        cpus=source.choice((0.0, 0.1, 0.25, 0.5)),
        memory_mib=source.choice((0, 64, 256)),
        zone=source.choice(ZONES) if source.random() < 0.15 else "",
        near=service_name(source.randrange(SERVICES)) if source.random() < 0.07 else "",
        apart_by=source.choice(("node.id", "node.labels.zone")) if source.random() < 0.07 else "",
        port=0 if is_global or source.random() < 0.8 else source.randint(8000, 8003),
        per_node=source.choice((0, 0, 0, 2, 3)),
        network=source.random() < 0.2,
        parallelism=source.choice((0, 1, 1, 2, 4)),
        start_first=not is_global and not is_fenced and source.random() < 0.3,
        failure_action=source.choice(("pause", "continue", "rollback")),
        monitor_seconds=source.choice((0.0, 5.0, 20.0)),
        delay_seconds=source.choice((0.0, 0.0, 5.0)),
        condition="on-failure" if program == "job" else "any",
        priority=priority,
        preempts=priority > 0 and source.random() < 0.7,
        budget=source.choice((-1, -1, -1, 0, 1, 2)),
        gang=f"{stack}_{gang}" if gang and stack else gang,
        canary=0 if is_global else canary,
        promote_seconds=source.choice((0.0, 10.0, 30.0)) if canary and not is_global else 0.0,
        ratio=source.choice((0.0, 0.0, 0.0, 0.5)),
        grace_seconds=2.0 if is_fenced else source.choice(GRACE_SECONDS),
        lost_node=lost_node,
        lost_seconds=source.choice(LOST_SECONDS) if lost_node != "replace" else 0.0,
    )


def drawn_shop(source: random.Random, stack: str) -> list[Wish]:
    """Return services that start one after the other, with a job among them."""
    db = Wish(
        name="db",
        stack=stack,
        program=source.choice((*STEADY, "ill", "broken")),
        replicas=source.randint(1, 3),
        failure_action=source.choice(("pause", "continue", "rollback")),
    )
    job = Wish(
        name="migrate",
        stack=stack,
        program=source.choice(BATCHES),
        replicas=source.randint(1, 4),
        is_job=True,
        at_a_time=source.choice((0, 1, 2)),
        retries=source.choice((0, 2, 5)),
        condition="on-failure",
        delay_seconds=source.choice((0.0, 5.0)),
        needs="db",
        condition_needed=source.choice(("service_started", "service_healthy")),
    )
    web = Wish(
        name="web",
        stack=stack,
        program=source.choice(STEADY),
        replicas=source.randint(1, 6),
        start_first=source.random() < 0.3,
        failure_action=source.choice(("pause", "continue", "rollback")),
        needs=source.choice(("db", "migrate")),
    )
    completed = DependencyCondition.COMPLETED.value
    how = (
        completed
        if web.needs == "migrate"
        else source.choice(("service_started", "service_healthy"))
    )
    return [db, job, msgspec.structs.replace(web, condition_needed=how)]


def drawn_tick(source: random.Random) -> Wish:
    """Return one of three jobs that run by themselves; one of them on every node of a zone."""
    concurrency = source.choice(TICKS)
    is_global = concurrency == "replace"
    return Wish(
        name=tick_name(concurrency),
        program=source.choice(BATCHES),
        replicas=source.randint(1, 3),
        is_job=True,
        is_global=is_global,
        zone=ZONES[0] if is_global else "",
        at_a_time=source.choice((0, 1)),
        retries=source.choice((0, 1)),
        condition="on-failure",
        cron=source.choice(("* * * * *", "*/2 * * * *", "*/3 * * * *")),
        concurrency=concurrency,
    )


def tick_name(concurrency: str) -> str:
    return f"tick-{concurrency}"


def host_info(name: str, source: random.Random, *, cpus: Sequence[int]) -> EngineInfo:
    """Return one of the kinds of hosts that there are, with one of these numbers of CPUs."""
    return EngineInfo(
        hostname=name,
        platform=Platform(os="linux", architecture="amd64"),
        capacity=Resources(
            cpu_nanos=source.choice(cpus) * CPU, memory_bytes=source.choice((4, 8)) * GIB
        ),
        version="20.10.24",
        labels={},
    )

"""What runs in a simulated cluster: programs, and the services that use them."""

import random
from collections.abc import Hashable, Mapping

import msgspec

from agent.runtime.interface import EngineInfo, Health
from cluster.model import (
    Concurrency,
    ContainerSpec,
    Dependency,
    DependencyCondition,
    FailureAction,
    JobSpec,
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

REPLICAS_MAX = 10
GRACE_SECONDS = (2.0, 10.0)


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """A service as an operator wants it: in a few plain values, so that a list of faults holds it.

    Attributes:
        number: raised by an update that changes nothing else.
        delay_seconds, turn_seconds: before a restart; between one place and the next in an update.
        port: published on the host; 0: none.
        is_job: one of so many completions as ``replicas``.
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
    port: int = 0
    per_node: int = 0
    network: bool = False
    parallelism: int = 1
    start_first: bool = False
    failure_action: str = "pause"
    monitor_seconds: float = 5.0
    delay_seconds: float = 0.0
    turn_seconds: float = 0.0
    condition: str = "any"
    grace_seconds: float = 10.0
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
            update=UpdateConfig(
                parallelism=self.parallelism,
                order=UpdateOrder.START_FIRST if self.start_first else UpdateOrder.STOP_FIRST,
                failure_action=FailureAction(self.failure_action),
                monitor_seconds=self.monitor_seconds,
                delay_seconds=self.turn_seconds,
            ),
            task=TaskSpec(
                container=ContainerSpec(
                    image=self.program,
                    environment={"NUMBER": str(self.number)},
                    stop_grace_seconds=self.grace_seconds,
                ),
                reservations=Resources(
                    cpu_nanos=round(self.cpus * CPU), memory_bytes=self.memory_mib << 20
                ),
                networks=(NetworkAttachment(network=f"{name}_net"),) if self.network else (),
                ports=(PublishedPort(target=80, published=self.port),) if self.port else (),
                restart=RestartPolicy(
                    condition=RestartCondition(self.condition), delay_seconds=self.delay_seconds
                ),
                placement=Placement(
                    constraints=(f"node.labels.zone == {self.zone}",) if self.zone else (),
                    max_replicas_per_node=self.per_node,
                ),
            ),
        )

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


def drawn(source: random.Random, name: str, *, stack: str = "", steady: bool = False) -> Wish:
    """Return a service of any kind."""
    program = source.choice(STEADY)
    if not steady and source.random() < 0.15:
        program = source.choice((*UNSTEADY, "job"))
    is_global = source.random() < 0.1
    return Wish(
        name=name,
        stack=stack,
        program=program,
        replicas=source.randint(1, REPLICAS_MAX),
        is_global=is_global,
        cpus=source.choice((0.0, 0.1, 0.25, 0.5)),
        memory_mib=source.choice((0, 64, 256)),
        zone=source.choice(ZONES) if source.random() < 0.15 else "",
        port=0 if is_global or source.random() < 0.8 else source.randint(8000, 8003),
        per_node=source.choice((0, 0, 0, 2, 3)),
        network=source.random() < 0.2,
        parallelism=source.choice((0, 1, 1, 2, 4)),
        start_first=not is_global and source.random() < 0.3,
        failure_action=source.choice(("pause", "continue", "rollback")),
        monitor_seconds=source.choice((0.0, 5.0, 20.0)),
        delay_seconds=source.choice((0.0, 0.0, 5.0)),
        condition="on-failure" if program == "job" else "any",
        grace_seconds=source.choice(GRACE_SECONDS),
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


def host_info(name: str, source: random.Random) -> EngineInfo:
    """Return one of the kinds of hosts that there are."""
    return EngineInfo(
        hostname=name,
        platform=Platform(os="linux", architecture="amd64"),
        capacity=Resources(
            cpu_nanos=source.choice((2, 4, 8)) * CPU, memory_bytes=source.choice((4, 8)) * GIB
        ),
        version="20.10.24",
        labels={},
    )

"""One run: a cluster, a list of incidents, and the verdict.

Storms of incidents alternate with calms. In a calm everything is healed, and all must be as
desired within a bound, and then stay so without a single decision for a while.
"""

import asyncio
import gc
import logging
import random
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field

from agent.settings import AgentSettings
from cluster import lifecycle
from cluster.ids import IdSource
from cluster.invariants import Breach
from cluster.model import ClusterSpec, LostNodePolicy, NodeId, NodeState, Rebalancing, Task
from manager.reconcilers.nodes import BEATS_MISSED_MAX
from manager.store.interface import LeaseId
from tests.fakes.runtime import Program
from tests.simulator import scaling
from tests.simulator.calm import unfinished
from tests.simulator.engine import Engine
from tests.simulator.equipment import Equipment
from tests.simulator.faults import Faults
from tests.simulator.hosts import AgentStation, ManagerStation, World
from tests.simulator.incidents import Drawer, Incident
from tests.simulator.operators import Operators
from tests.simulator.trace import TraceEvent
from tests.simulator.workload import (
    ABSENT,
    BATCHES,
    IMAGES,
    PROGRAMS,
    SERVICES,
    WELL,
    ZONES,
    drawn,
    host_info,
    service_name,
)

HOUR = 3600.0

# How long a storm lasts, and one incident in how many seconds of it on average.
STORM_SECONDS = (180.0, 600.0)
EVERY_SECONDS = (16.0, 32.0)

# I13's bound. What takes longest: a place whose task failed often waits over a minute before the
# next, a stopping container has its grace, a set of agents has up to five seconds between tries.
CALM_SECONDS = 240.0

# Longer than the reconcilers' resync, so that everything is looked at again: and nothing written.
QUIET_SECONDS = 40.0

# Before that everything is looked at once: a task that waits may have to say anew why.
SETTLE_SECONDS = 32.0

LOOK_SECONDS = 2.0

# Beyond the grace of its heartbeats, what it may take until a host is known to be lost: when a ping
# finds its connection broken, which takes thirteen seconds at most, the grace begins anew.
LOST_SLACK_SECONDS = 16.0

# Between heartbeats, as operators may choose; most of what an hour costs is heartbeats, and what
# goes wrong goes wrong at any pace.
PERIODS_SECONDS = (1.0, 5.0, 5.0, 10.0, 10.0, 20.0, 20.0)

# Of what sizes a cluster's hosts are. On small ones there is not room for all: tasks wait, and make
# way for others.
CPUS = ((2, 4, 8), (2, 4, 8), (1,), (1, 2))

# How clusters better their layout by themselves; most do not.
REBALANCINGS = (
    *(3 * [Rebalancing()]),
    Rebalancing(automatic=True, rest_seconds=300.0),
    Rebalancing(automatic=True, rest_seconds=900.0, moves=4),
)

# So many rounds may come in a row in a healed cluster; moves that pay come to an end, and rollouts
# that wait for room.
ROUNDS_MAX = 6

# A healed cluster's programs: they run on, whatever they did before, but for those of jobs.
HEALED = {
    name: Program(health=WELL) if each.health else Program() for name, each in PROGRAMS.items()
} | {name: PROGRAMS[name] for name in BATCHES}


@dataclass(frozen=True)
class Scale:
    """How large the cluster is, and for how long it runs.

    Attributes:
        cpus: of each host one of these numbers; none: as is drawn.
    """

    managers: int = 3
    agents: int = 20
    hours: float = 1.0
    cpus: tuple[int, ...] = ()


@dataclass
class Outcome:
    """What came of a run.

    Attributes:
        breach: None if all is well.
        story: the last events that concern it.
        seconds: simulated.
        calms: how long each took until all was as desired.
    """

    seed: int
    breach: Breach | None
    story: Sequence[TraceEvent]
    trace: str
    seconds: float
    incidents: int
    acknowledged: int
    refused: int
    commits: int
    calms: list[float] = field(default_factory=list)


def draw(seed: int, scale: Scale) -> list[list[Incident]]:
    """Return the incidents of each storm of a run that takes about as long as *scale* says."""
    source = random.Random(f"{seed}/incidents")
    equipment = Equipment(seed, "incidents")
    drawer = Drawer(source, equipment, _names("m", scale.managers), _names("a", scale.agents))
    storms = []
    left = scale.hours * HOUR
    while left > 0:
        seconds = source.uniform(*STORM_SECONDS)
        storms.append(drawer.storm(seconds, source.uniform(*EVERY_SECONDS)))
        left -= seconds + CALM_SECONDS
    return storms


def _names(letter: str, count: int) -> tuple[str, ...]:
    return tuple(f"{letter}-{number}" for number in range(1, count + 1))


class Simulation:
    """Prepared to run once."""

    def __init__(
        self,
        seed: int,
        scale: Scale = Scale(),
        storms: Sequence[Sequence[Incident]] | None = None,
        *,
        copies: bool = False,
        with_trace: bool = True,
        with_logs: bool = False,
    ) -> None:
        """Set up.

        Args:
            seed: of everything that is drawn.
            scale: of the cluster.
            storms: incidents; None: as drawn from the seed.
            copies: let messages be encoded and decoded.
            with_trace: keep what happens; without, a breach comes without its story.
            with_logs: have what the programs log in the trace.
        """
        self.seed = seed
        self.world = world = World(seed, copies=copies, with_trace=with_trace)
        self.scale = scale
        self.storms = draw(seed, scale) if storms is None else storms
        self._with_logs = with_logs
        self._calms: list[float] = []
        self._begun = 0
        self._period_seconds = 1.0
        self._equipment = Equipment(seed, "services")
        self._cpus = scale.cpus or world.source("cpus").choice(CPUS)
        self.managers = {host: ManagerStation(world, host) for host in _names("m", scale.managers)}
        addresses = tuple(manager.address for manager in self.managers.values())
        self.agents = {
            host: self._agent(number, host, addresses)
            for number, host in enumerate(_names("a", scale.agents), 1)
        }
        world.state.on_expiry = self._lease_expires
        self.operators = Operators(world, addresses)
        self.faults = Faults(world, self.managers, self.agents, self.operators)

    def run(self) -> Outcome:
        handler = _Logs(self.world, with_info=self._with_logs)
        with handler:
            self.world.loop.run(self._main())
            self._see_failures()
        judge, loop = self.world.judge, self.world.loop
        return Outcome(
            seed=self.seed,
            breach=judge.breach,
            story=self.world.trace.story(judge.breach.objects) if judge.breach else (),
            trace=str(self.world.trace),
            seconds=loop.now,
            incidents=self._begun,
            acknowledged=self.operators.acknowledged,
            refused=self.operators.refused,
            commits=judge.commits,
            calms=self._calms,
        )

    def drop(self) -> None:
        """Let go of the whole world."""
        loop = self.world.loop
        vars(self).clear()
        loop.drop()

    def _agent(self, number: int, host: str, managers: tuple[str, ...]) -> AgentStation:
        world = self.world
        source = world.source(host, "host")
        node_id = NodeId(IdSource(source).new())
        settings = AgentSettings(
            managers=managers,
            hostname=host,
            address=f"198.18.0.{number}",
            labels={"zone": ZONES[number % len(ZONES)]},
            generic_resources=self._equipment.offers(number),
        )

        def engine(station: AgentStation) -> Engine:
            return Engine(
                world.loop,
                host,
                node_id,
                world.judge,
                programs=HEALED,
                registry={*IMAGES, ABSENT},
                info=host_info(host, source, cpus=self._cpus),
                clock=station.wall,
            )

        return AgentStation(world, host, settings, engine, node_id)

    # --- the course of a run ------------------------------------------------------------------

    async def _main(self) -> None:
        for station in (*self.managers.values(), *self.agents.values()):
            station.start()
        source = self.world.source("services")
        self._period_seconds = source.choice(PERIODS_SECONDS)
        spec = ClusterSpec(
            heartbeat_period_seconds=self._period_seconds,
            task_history_limit=3,
            rebalancing=source.choice(REBALANCINGS),
        )
        await self.operators.insist("set_up", every_seconds=LOOK_SECONDS, spec=spec)
        for number in range(SERVICES):
            wish = self._equipment.used_by(drawn(source, service_name(number), steady=True))
            await self.operators.insist("want", every_seconds=LOOK_SECONDS, wish=wish)
        await self._calm(CALM_SECONDS)
        for storm in self.storms:
            await self._storm(storm)
            await self._calm(self.world.loop.now + CALM_SECONDS)
            await self._lose_a_host()
            await self._calm(self.world.loop.now + CALM_SECONDS)

    async def _storm(self, incidents: Sequence[Incident]) -> None:
        loop = self.world.loop
        began_at = loop.now
        for agent in self.agents.values():
            agent.engine.programs = dict(PROGRAMS)
            agent.engine.registry.discard(ABSENT)
        await self._steer_schedules(began_at, suspended=False)
        for incident in incidents:
            await asyncio.sleep(began_at + incident.at - loop.now)
            self.faults.begin(incident)
            self._begun += 1
            self._see_failures()

    async def _calm(self, until: float) -> None:
        """Heal everything; require what is desired by then, and quiet afterwards."""
        began_at = self.world.loop.now
        self.world.tell("world", "is healed")
        for agent in self.agents.values():
            agent.engine.programs = dict(HEALED)
            agent.engine.registry.add(ABSENT)
        self.faults.heal()
        await self._until_desired(until)
        if missing := self._unfinished(5):
            seconds = self.world.loop.now - began_at
            text = f"not as desired {seconds:.0f} s after everything was healed: "
            objects = tuple(dict.fromkeys(each for _, ids in missing for each in ids if each))
            text += "; ".join(what for what, _ in missing)
            self.world.judge.found(Breach("I13", objects, text))
            return
        self._calms.append(self.world.loop.now - began_at)
        await self._quiet()

    async def _steer_schedules(self, until: float, *, suspended: bool) -> None:
        """Let nothing begin by the clock, so that there can be quiet; or let it go on."""
        for service in list(self.world.judge.state.services.values()):
            if service.spec.job.schedule is not None and service.suspended is not suspended:
                wanted = {"name": service.spec.name, "suspended": suspended}
                await self.operators.insist(
                    "suspend", every_seconds=LOOK_SECONDS, until=until, **wanted
                )

    async def _until_desired(self, until: float) -> None:
        while self.world.loop.now < until:
            await asyncio.sleep(LOOK_SECONDS)  # what was asked for before may come only now
            await self._steer_schedules(until, suspended=True)
            self._see_failures()
            if not self._unfinished(1):
                return

    async def _lose_a_host(self) -> None:
        """I13: in a healthy cluster, the tasks of a host that dies run elsewhere in time."""
        world = self.world
        agent = world.source("lost", world.loop.now).choice(list(self.agents.values()))
        state = world.judge.state
        bound = [task.id for task in state.on_node(agent.node_id) if lifecycle.live(task)]
        agent.power_off()
        await asyncio.sleep(BEATS_MISSED_MAX * self._period_seconds + LOST_SLACK_SECONDS)
        node = state.nodes.get(agent.node_id)
        if node is not None and node.status.state is not NodeState.DOWN:
            text = f"{agent.host} lost power long ago, and is {node.status.state.value} still"
            world.judge.found(Breach("I13", (agent.node_id,), text))
        for task_id in bound:
            task = state.tasks.get(task_id)
            if task is not None and lifecycle.live(task) and not self._may_wait(task):
                text = f"{agent.host} lost power long ago, and {state.called(task)} is to run there"
                world.judge.found(Breach("I13", (task_id, agent.node_id), text))
        agent.power_on()

    def _may_wait(self, task: Task) -> bool:
        """Tell whether a task on a lost node is not given up at once."""
        judge = self.world.judge
        own = judge.state.versions.get((task.service_id, task.spec_version))
        service = judge.state.services.get(task.service_id)
        specs = [each.spec for each in (own, service) if each is not None]
        is_global = not task.slot
        at_once = LostNodePolicy.REPLACE
        return is_global or any(spec.task.lost_node.policy is not at_once for spec in specs)

    async def _quiet(self) -> None:
        """Require that nothing more is decided, once nothing new has begun for a while."""
        judge = self.world.judge
        for _ in range(ROUNDS_MAX):
            rounds = judge.rounds
            await asyncio.sleep(SETTLE_SECONDS)
            decisions = judge.decisions
            await asyncio.sleep(QUIET_SECONDS)
            self._see_failures()
            if judge.rounds == rounds:
                break
            await self._until_desired(self.world.loop.now + CALM_SECONDS)
        else:
            text = f"{ROUNDS_MAX} rounds of moves or rollouts came, and there is no end"
            judge.found(Breach("I17", (), text))
            return
        if judge.decisions != decisions:
            count = judge.decisions - decisions
            text = f"{count} transactions changed things though all was as desired"
            judge.found(Breach("I17", (), text))
        judge.nothing_comes_back()
        for what, objects in scaling.off(judge.state):
            judge.found(Breach("I13", objects, what))
        if self._unfinished(1):  # what is no decision may have been written just now
            await asyncio.sleep(LOOK_SECONDS)
        for what, objects in self._unfinished(1):
            judge.found(Breach("I13", objects, f"no longer as desired: {what}"))

    def _lease_expires(self, lease: LeaseId) -> None:
        for manager in self.managers.values():
            held = manager.held_lease
            if held is not None and held.id == lease and not manager.process.paused:
                with self.world.loop.acting_for(manager.process):
                    self.world.judge.lease_ended(manager.process, held.seconds_left())

    def _unfinished(self, most: int) -> list[tuple[str, tuple[str, ...]]]:
        missing = unfinished(self.world, self.managers, self.agents)
        return [each for each, _ in zip(missing, range(most), strict=False)]

    def _see_failures(self) -> None:
        for process, context in self.world.loop.failures:
            error = context.get("exception")
            text = "".join(traceback.format_exception(error)) if error else ""
            self.world.judge.found(
                Breach("defect", (), f"{process}: {context.get('message')}\n{text}")
            )
        self.world.loop.failures.clear()


def simulate(
    seed: int,
    scale: Scale = Scale(),
    storms: Sequence[Sequence[Incident]] | None = None,
    *,
    copies: bool = False,
    with_trace: bool = True,
    with_logs: bool = False,
) -> Outcome:
    """Run one simulation; see ``Simulation``."""
    gc.freeze()  # what was there before needs no looking at when this world goes
    simulation = Simulation(
        seed, scale, storms, copies=copies, with_trace=with_trace, with_logs=with_logs
    )
    try:
        return simulation.run()
    finally:
        simulation.drop()
        gc.unfreeze()


class _Logs(logging.Handler):
    """Takes what programs log: an error is a breach, the rest is for the trace."""

    def __init__(self, world: World, *, with_info: bool) -> None:
        super().__init__(logging.INFO if with_info else logging.ERROR)
        self._world = world
        self._before = logging.root.level

    def __enter__(self) -> None:
        logging.root.addHandler(self)
        logging.root.setLevel(self.level)

    def __exit__(self, *_: object) -> None:
        logging.root.removeHandler(self)
        logging.root.setLevel(self._before)

    def emit(self, record: logging.LogRecord) -> None:
        process = self._world.loop.current
        if record.levelno >= logging.ERROR and process.alive:
            trace = ""
            if record.exc_info and record.exc_info[1]:
                trace = "\n" + "".join(traceback.format_exception(record.exc_info[1]))
            text = f"{process} logged an error: {record.getMessage()}{_more(record)}{trace}"
            self._world.judge.found(Breach("defect", _ids(record), text))
        else:
            self._world.tell(process, f"{record.getMessage()}{_more(record)}", *_ids(record))


_USUAL = frozenset(vars(logging.makeLogRecord({})))


def _more(record: logging.LogRecord) -> str:
    more = {key: value for key, value in vars(record).items() if key not in _USUAL}
    return f" {more}" if more else ""


def _ids(record: logging.LogRecord) -> tuple[str, ...]:
    named = (getattr(record, name, "") for name in ("task", "node", "service"))
    return tuple(each for each in named if isinstance(each, str) and each)

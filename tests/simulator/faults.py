"""Makes incidents happen, and ends those that last."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from agent.runtime.interface import Container, Health
from tests.simulator.hosts import AgentStation, ManagerStation, Station, World
from tests.simulator.incidents import Incident
from tests.simulator.operators import HOST as DESK
from tests.simulator.operators import Operators

Undo = Callable[[], None]

OOM = 137


class Faults:
    """Hands each incident to the method of its kind."""

    def __init__(
        self,
        world: World,
        managers: Mapping[str, ManagerStation],
        agents: Mapping[str, AgentStation],
        operators: Operators,
    ) -> None:
        self._world = world
        self._managers = managers
        self._agents = agents
        self._stations: Mapping[str, Station] = {**managers, **agents}
        self._operators = operators
        self._numbers = itertools.count()
        self._lasting: dict[int, Undo] = {}

    def begin(self, incident: Incident) -> None:
        self._world.tell("fault", str(incident)[12:])
        if incident.kind == "ask":
            self._ask(incident)
            return
        method: Callable[..., Undo | None] = getattr(self, incident.kind)
        undo = method(self._target(incident.target), **incident.params)
        if undo is not None:
            number = next(self._numbers)
            self._lasting[number] = undo
            loop = self._world.loop
            loop.at(loop.now + incident.seconds, self._end, number)

    def heal(self) -> None:
        """End whatever lasts; start whatever should run."""
        for number in list(self._lasting):
            self._end(number)
        for station in self._stations.values():
            station.process.steps_left = -1
            station.start()
        for manager in self._managers.values():
            manager.on_leg = _nothing
        for agent in self._agents.values():
            agent.engine.failures.clear()
            agent.engine.steady()

    def _end(self, number: int) -> None:
        undo = self._lasting.pop(number, None)
        if undo is not None:
            undo()

    def _target(self, name: str) -> Any:
        if name == "leader":
            leading = [manager for manager in self._managers.values() if manager.leads]
            return leading[0] if leading else next(iter(self._managers.values()))
        return self._stations.get(name)

    def _ask(self, incident: Incident) -> None:
        wanted: dict[str, Any] = dict(incident.params)
        if incident.what == "want":
            wanted["wish"] = incident.wishes[0]
        elif incident.what == "deploy":
            wanted["wishes"] = list(incident.wishes)
        loop = self._world.loop
        loop.start(self._operators.process, self._operators.ask(incident.what, wanted))

    # --- programs -----------------------------------------------------------------------------

    def kill(self, station: Station) -> Undo:
        station.wanted_down += 1
        station.kill()
        return lambda: _let_start(station)

    def kill_after_steps(self, station: Station, steps: int) -> Undo | None:
        if not station.process.alive:
            return None
        station.wanted_down += 1
        station.process.on_last_step = station.kill
        station.process.steps_left = steps
        return lambda: _let_start(station)

    def kill_at_leg(self, manager: ManagerStation, legs: int) -> Undo:
        manager.wanted_down += 1
        manager.on_leg = _at_last(manager, legs, manager.kill)
        return lambda: _let_start(manager)

    def stop(self, manager: ManagerStation) -> None:
        manager.stop()

    def pause(self, station: Station) -> Undo:
        station.pause()
        return station.resume

    def pause_at_leg(self, manager: ManagerStation, legs: int) -> Undo:
        manager.on_leg = _at_last(manager, legs, manager.pause)
        return lambda: _resume(manager)

    # --- hosts and their engines --------------------------------------------------------------

    def power_off(self, agent: AgentStation) -> Undo:
        agent.power_off()
        return agent.power_on

    def power_off_many(self, _: None, share: float) -> Undo:
        agents = list(self._agents.values())
        source = self._world.source("power", self._world.loop.now)
        lost = [agent for agent in agents if source.random() < share]
        for agent in lost:
            agent.power_off()

        def power_on() -> None:
            for agent in lost:
                agent.power_on()

        return power_on

    def engine_crash(self, agent: AgentStation, *, keeps: bool) -> Undo:
        agent.engine.crash()

        def come_back() -> None:
            if self._world.network.is_up(agent.host):
                agent.engine.come_back(with_containers=keeps)

        return come_back

    def engine_hang(self, agent: AgentStation) -> Undo:
        agent.engine.is_hung = True

        def go_on() -> None:
            agent.engine.is_hung = False

        return go_on

    def engine_fails(self, agent: AgentStation, call: str, times: int) -> Undo:
        agent.engine.failures[call] = times
        return lambda: _forget(agent.engine.failures, call)

    def engine_slow(self, agent: AgentStation, by: float) -> Undo:
        agent.engine.slow_seconds = by

        def be_quick() -> None:
            agent.engine.slow_seconds = 0.0

        return be_quick

    def slow_pulls(self, agent: AgentStation, pull_seconds: float) -> Undo:
        agent.engine.pull_seconds = pull_seconds
        agent.engine.images.clear()

        def be_quick() -> None:
            agent.engine.pull_seconds = 0.0

        return be_quick

    def disk_full(self, agent: AgentStation) -> Undo:
        for call in ("create", "pull"):
            agent.engine.failures[call] = 1_000_000
        return agent.engine.failures.clear

    def late_hints(self, agent: AgentStation, by: float) -> Undo:
        agent.engine.hint_seconds = by

        def be_quick() -> None:
            agent.engine.hint_seconds = 0.0

        return be_quick

    def container(self, agent: AgentStation, how: str, nth: int) -> None:
        engine = agent.engine
        running = [one for one in engine.containers() if one.alive and one.task_id]
        if not running:
            return
        one: Container = running[nth % len(running)]
        self._world.tell(agent.host, f"{how}: {one.name}", one.task_id)
        match how:
            case "crash":
                engine.exit(one.id, 1)
            case "exit":
                engine.exit(one.id, 0)
            case "oom":
                engine.exit(one.id, OOM, oom_killed=True)
            case "ill":
                engine.set_health(one.id, Health.UNHEALTHY, "no answer")
            case "stop_by_hand":
                engine.stop_by_hand(one.id)
            case "remove_by_hand":
                engine.remove_by_hand(one.id)
            case "lose":
                engine.lose(one.id)

    # --- links --------------------------------------------------------------------------------

    def cut(self, station: Station, other: str, way: str) -> Undo:
        pairs = []
        if way in ("both", "to"):
            pairs.append((station.host, other))
        if way in ("both", "from"):
            pairs.append((other, station.host))
        return self._cut(pairs)

    def isolate(self, station: Station) -> Undo:
        others = [host for host in (*self._stations, DESK) if host != station.host]
        pairs = [pair for host in others for pair in ((host, station.host), (station.host, host))]
        mend = self._cut(pairs)
        if not isinstance(station, ManagerStation):
            return mend
        cut_store = self.store_link(station, "cut", 0.0)

        def mend_all() -> None:
            mend()
            cut_store()

        return mend_all

    def slow(self, station: Station, other: str, by: float) -> Undo:
        network = self._world.network
        network.slow(station.host, other, by)
        network.slow(other, station.host, by)

        def be_quick() -> None:
            network.slow(station.host, other, 0.0)
            network.slow(other, station.host, 0.0)

        return be_quick

    def _cut(self, pairs: Sequence[tuple[str, str]]) -> Undo:
        network = self._world.network
        for pair in pairs:
            network.cut(*pair)

        def mend() -> None:
            for pair in pairs:
                network.mend(*pair)

        return mend

    # --- the store ----------------------------------------------------------------------------

    def store_away(self, _: None) -> Undo:
        self._world.state.go_away()
        return self._world.state.come_back

    def store_link(self, manager: ManagerStation, how: str, by: float) -> Undo:
        link = manager.link
        match how:
            case "cut" | "behind":
                link.cut = True
            case "deaf":
                link.deaf = True
            case "slow":
                link.slow_seconds = by
            case "ghost":
                link.ghost_seconds = by
            case "lag":
                link.lag_seconds = by

        def mend() -> None:
            match how:
                case "behind":  # what it has missed is not to be had any more
                    self.compact(None)
                    link.cut = False
                case "cut":
                    link.cut = False
                case "deaf":
                    link.deaf = False
                case "slow":
                    link.slow_seconds = 0.0
                case "ghost":
                    link.ghost_seconds = 0.0
                case "lag":
                    link.lag_seconds = 0.0

        return mend

    def compact(self, _: None) -> None:
        self._world.state.compact(self._world.state.revision)

    # --- clocks -------------------------------------------------------------------------------

    def clock_jump(self, station: Station, by: float) -> Undo:
        """Let a host's wall clock be wrong for a while, then be set right: two jumps."""
        station.wall.ahead_seconds += by

        def set_right() -> None:
            station.wall.ahead_seconds -= by

        return set_right


def _let_start(station: Station) -> None:
    station.wanted_down -= 1
    station.process.steps_left = -1
    if isinstance(station, ManagerStation):
        station.on_leg = _nothing
    station.start()


def _resume(manager: ManagerStation) -> None:
    manager.on_leg = _nothing
    manager.resume()


def _at_last(manager: ManagerStation, legs: int, act: Callable[[], None]) -> Callable[[], None]:
    """Return what acts when it is called for the *legs*-th time."""
    left = itertools.count(legs - 1, -1)

    def on_leg() -> None:
        if next(left) == 0:
            act()

    return on_leg


def _forget(failures: dict[str, int], call: str) -> None:
    failures.pop(call, None)


def _nothing() -> None:
    """Do nothing."""

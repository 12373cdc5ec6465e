"""One story that is told in advance: a small cluster in which only that happens what a script says.

The judge looks on as ever: a promise that is broken ends the story.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from cluster.lifecycle import live
from cluster.model import ClusterSpec, Node, Rollout, Service, Task, TaskState
from tests.simulator.hosts import AgentStation, ManagerStation
from tests.simulator.simulation import Outcome, Scale, Simulation
from tests.simulator.workload import PROGRAMS, Wish

LOOK_SECONDS = 0.05

ROOMY = (2, 4, 8)  # CPUs of hosts that have room for all

# Longer than anything takes here that is not wrong: a task that ended early waits before the next.
PATIENCE_SECONDS = 240.0

Script = Callable[["Scenario"], Awaitable[None]]


class Scenario(Simulation):
    """A cluster that does what *script* says.

    Attributes:
        fewest: of the followed service's tasks, how many ran at a time at least.
    """

    def __init__(self, script: Script, *, agents: int = 4, seed: int = 1) -> None:
        super().__init__(seed, Scale(managers=3, agents=agents, cpus=ROOMY), storms=())
        self.fewest = 0
        self._script = script
        self._followed = ""

    async def _main(self) -> None:
        for agent in self.agents.values():
            agent.engine.programs = dict(PROGRAMS)
        for station in (*self.managers.values(), *self.agents.values()):
            station.start()
        await self._asked(
            "set_up", spec=ClusterSpec(heartbeat_period_seconds=1.0, task_history_limit=3)
        )
        await self.until(
            lambda: len(self.world.judge.sessions) == len(self.agents), "every agent has a session"
        )
        await self._script(self)

    # --- what operators do ---

    async def want(self, wish: Wish) -> None:
        await self._asked("want", wish=wish)

    async def drain(self, agent: AgentStation) -> None:
        await self._asked("set_node", node=agent.node_id, availability="drain")

    async def pause(self, agent: AgentStation) -> None:
        await self._asked("set_node", node=agent.node_id, availability="pause")

    async def _asked(self, what: str, **wanted: Any) -> None:
        await self.operators.insist(what, every_seconds=LOOK_SECONDS, **wanted)

    # --- what there is ---

    def service(self, name: str) -> Service:
        (service,) = self.world.judge.state.services_named(name)
        return service

    def node(self, agent: AgentStation) -> Node:
        return self.world.judge.state.nodes[agent.node_id]

    def tasks(self, name: str, version: int = 0) -> list[Task]:
        """Return the service's tasks that live, of one version or of all."""
        tasks = self.world.judge.state.of_service(self.service(name).id)
        return [t for t in tasks if live(t) and version in (0, t.spec_version)]

    def running(self, name: str, version: int = 0) -> Sequence[Task]:
        tasks = self.tasks(name, version)
        return [task for task in tasks if task.status.state is TaskState.RUNNING]

    def on(self, agent: AgentStation) -> Sequence[Task]:
        return list(self.world.judge.state.on_node(agent.node_id))

    def rollout(self, name: str) -> Rollout:
        service_id = self.service(name).id
        return self.world.judge.rollouts.get(service_id) or Rollout(service_id=service_id)

    # --- what comes of it ---

    def follow(self, name: str) -> None:
        """Count from now on how many of the service's tasks run."""
        self._followed, self.fewest = name, len(self.running(name))

    async def until(self, holds: Callable[[], bool], what: str) -> None:
        """Wait until something holds; everything looks on meanwhile."""
        loop = self.world.loop
        give_up_at = loop.now + PATIENCE_SECONDS
        while not holds():
            assert loop.now < give_up_at, f"not in {PATIENCE_SECONDS:.0f} s: {what}"
            await asyncio.sleep(LOOK_SECONDS)
            self._look()

    async def until_calm(self) -> None:
        await self.until(lambda: not self._unfinished(1), "all is as desired")

    async def pass_seconds(self, seconds: float) -> None:
        ends_at = self.world.loop.now + seconds
        while self.world.loop.now < ends_at:
            await asyncio.sleep(LOOK_SECONDS)
            self._look()

    def _look(self) -> None:
        self._see_failures()
        if self._followed:
            self.fewest = min(self.fewest, len(self.running(self._followed)))

    def kill_leader_when(self, holds: Callable[[], bool]) -> list[ManagerStation]:
        """Kill the leader as soon as something holds; return who was killed, once that is so.

        It is looked at before every call to the store and before every answer: so the leader can
        die without ever knowing that it has written what holds.
        """
        killed: list[ManagerStation] = []

        def on_leg() -> None:
            leading = [manager for manager in self.managers.values() if manager.leads]
            if not killed and leading and holds():
                killed.append(leading[0])
                leading[0].kill()

        for manager in self.managers.values():
            manager.on_leg = on_leg
        return killed


def play(script: Script, *, agents: int = 4) -> Outcome:
    """Play a scenario; a broken promise fails it."""
    scenario = Scenario(script, agents=agents)
    try:
        outcome = scenario.run()
    finally:
        scenario.drop()
    story = "".join(f"{event}\n" for event in outcome.story)
    assert outcome.breach is None, f"{story}{outcome.breach}"
    return outcome

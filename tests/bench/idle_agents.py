"""Many agents in one process, each on a Docker that is only imagined, all with nothing to do.

``python -m tests.bench.idle_agents COUNT FOLDER MANAGER[,MANAGER...]``; says ``ready`` once all
have a session, and ends when its standard input does.
"""

import asyncio
import dataclasses
import random
import sys
from pathlib import Path

import uvloop

from agent.agent import Agent
from agent.channel import Dialer
from agent.host import PsutilMeter
from agent.identity import IdentityFiles
from agent.settings import AgentSettings
from cluster.clock import SystemClock
from cluster.ids import IdSource
from tests.fakes.runtime import INFO, FakeEngine, FakeRuntime


async def run(count: int, folder: Path, managers: tuple[str, ...]) -> None:
    source = random.SystemRandom()
    missing = set(range(count))
    everybody = asyncio.Event()

    def has_session(number: int) -> None:
        missing.discard(number)
        if not missing:
            everybody.set()

    def agent(number: int) -> Agent:
        files = IdentityFiles(folder / str(number))
        info = dataclasses.replace(INFO, hostname=f"idle{number}")
        return Agent(
            AgentSettings(managers=managers, hostname=f"idle{number}", address="127.0.0.1"),
            FakeRuntime(FakeEngine(info=info)),
            files,
            files.load(IdSource(source)),
            dialer=Dialer(None),
            clock=SystemClock(),
            source=source,
            meter=PsutilMeter(),
            on_session=lambda: has_session(number),
        )

    async with asyncio.TaskGroup() as group:
        agents = [group.create_task(agent(number).run()) for number in range(count)]
        await everybody.wait()
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.read)
        for each in agents:
            each.cancel()


if __name__ == "__main__":
    uvloop.run(run(int(sys.argv[1]), Path(sys.argv[2]), tuple(sys.argv[3].split(","))))

"""``python -m agent``: read the settings, put the objects together, run until told to stop."""

import asyncio
import contextlib
import logging
import os
import random
import signal
import sys
from pathlib import Path

import psutil
import uvloop

from agent import guard
from agent.agent import Agent
from agent.channel import Dialer
from agent.fence import Fence, GuardFile
from agent.host import PsutilMeter
from agent.identity import IdentityFiles
from agent.runtime.dockerd import DockerRuntime
from agent.settings import AgentSettings
from cluster import __version__, logs, settings, systemd
from cluster.clock import SystemClock
from cluster.errors import InvalidError
from cluster.ids import IdSource

log = logging.getLogger(__name__)

USAGE_EXIT = 2
CLOSE_SECONDS_MAX = 5.0  # to let go of connections; nothing is lost by cutting them


def main() -> int:
    """Run the agent; return the exit code."""
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # each lost manager is a line of our own log
    try:
        chosen = settings.load(AgentSettings, "agent", sys.argv[1:], os.environ)
        chosen.check()
        logs.configure(level=chosen.log_level, as_json=chosen.log_json)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_run(chosen))
    except InvalidError as error:
        print(f"shoal-agent: {error}", file=sys.stderr)  # noqa: T201 - there is no log yet
        return USAGE_EXIT
    except BaseExceptionGroup as errors:
        log.critical("broke", exc_info=errors)
        return 1
    return 0


async def _run(chosen: AgentSettings) -> None:
    source = random.SystemRandom()
    files = IdentityFiles(Path(chosen.state_dir))
    identity = files.load(IdSource(source))
    dialer = Dialer(settings.tls_files(chosen.tls_ca, chosen.tls_cert, chosen.tls_key))
    runtime = DockerRuntime(chosen.docker)
    agent = Agent(
        chosen,
        runtime,
        files,
        identity,
        dialer=dialer,
        clock=SystemClock(),
        source=source,
        meter=PsutilMeter(),
        booted_at=psutil.boot_time(),
        fence=Fence(GuardFile(Path(chosen.state_dir)), guard.since_boot),
        on_session=lambda: systemd.notify(systemd.READY, "STATUS=has a session"),
        tell=lambda what: systemd.notify(f"STATUS={what}"),
    )
    log.info("starts", extra={"node": identity.node_id, "version": __version__})
    work = asyncio.create_task(agent.run())
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, work.cancel)
    try:
        await work
    except asyncio.CancelledError:
        log.info("stops; containers go on")
        systemd.notify(systemd.STOPPING)
    finally:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS_MAX):
                await runtime.aclose()


if __name__ == "__main__":
    code = main()
    logging.shutdown()
    sys.stderr.flush()
    # A thread may be waiting for a hung Docker; there is nothing in it to wait for.
    os._exit(code)

"""``python -m manager``: reads what it is told, puts a manager together, and runs it."""

import asyncio
import contextlib
import logging
import os
import random
import resource
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import uvloop

from cluster import logs, systemd
from cluster.clock import SystemClock
from cluster.errors import InvalidError
from cluster.settings import load
from manager.config import ManagerSettings, check, etcd_password
from manager.control.cluster import StoreMember
from manager.rpc.transport import GrpcTransport
from manager.server import ManagerServer
from manager.store.etcd import EtcdStore, TlsFiles

log = logging.getLogger("manager")

EXIT_FAILURE, EXIT_USAGE = 1, 2


def main(arguments: Sequence[str]) -> int:
    """Run a manager until SIGTERM or SIGINT; return the exit code."""
    try:
        settings = load(ManagerSettings, "manager", arguments, os.environ)
        check(settings)
        logs.configure(level=settings.log_level, as_json=settings.log_json)
        _raise_file_limit()
        uvloop.run(_run(settings))
    except InvalidError as error:
        sys.stderr.write(f"shoal-manager: {error}\n")
        return EXIT_USAGE
    except Exception:
        log.exception("the manager ends")
        return EXIT_FAILURE
    return 0


async def _run(settings: ManagerSettings) -> None:
    source = random.SystemRandom()
    store = _store(settings, source)

    async def members() -> Sequence[StoreMember]:
        return [
            StoreMember(
                endpoint=each.endpoint,
                reachable=each.reachable,
                server_version=each.version,
                size_bytes=each.database_bytes,
                leads=each.leads,
                error=each.trouble,
            )
            for each in await store.members()
        ]

    stopping = asyncio.Event()

    def stop() -> None:
        systemd.notify(systemd.STOPPING, "STATUS=stops")
        stopping.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    server = ManagerServer(
        store,
        members,
        listen=settings.listen,
        advertise=settings.advertise,
        transport=GrpcTransport(settings.tls),
        clock=SystemClock(),
        source=source,
        lease_seconds=settings.lease_seconds,
    )
    systemd.notify(f"STATUS=waits for etcd at {', '.join(settings.etcd)}")
    await server.run(
        stopping, lambda: systemd.notify(systemd.READY, f"STATUS=serves {server.address}")
    )


def _store(settings: ManagerSettings, source: random.Random) -> EtcdStore:
    tls = None
    if settings.etcd_ca:
        tls = TlsFiles(
            ca=Path(settings.etcd_ca),
            cert=Path(settings.etcd_cert) if settings.etcd_cert else None,
            key=Path(settings.etcd_key) if settings.etcd_key else None,
        )
    return EtcdStore(
        settings.etcd,
        tls=tls,
        user=settings.etcd_user or None,
        password=etcd_password(settings),
        source=source,
    )


def _raise_file_limit() -> None:
    """Take as many open files as we may: every agent and client is one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

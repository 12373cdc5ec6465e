"""A Docker daemon of our own, for machines whose service manager can't start one."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from scripts.lib import machine
from scripts.lib.dockerd import HOME, SOCKET, LocalDockerd


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="scripts/dockerd-local", description=__doc__)
    parser.add_argument("action", choices=["start", "stop", "status"])
    parser.add_argument("--socket", type=Path, default=SOCKET, help="default: %(default)s")
    parser.add_argument(
        "--home", type=Path, default=HOME, help="for images and containers; default: %(default)s"
    )
    parser.add_argument(
        "--delete", action="store_true", help="with stop: remove its images and containers too"
    )
    options = parser.parse_args(arguments)
    dockerd = LocalDockerd(options.socket.absolute(), options.home.absolute())
    if options.action == "start":
        machine.install(machine.missing(machine.TO_RUN))
        dockerd.start()
        print(f"dockerd runs as process {dockerd.pid}; DOCKER_HOST=unix://{dockerd.socket}")
    elif options.action == "stop":
        print("stopped" if dockerd.stop(delete=options.delete) else "it did not run")
    else:
        pid = dockerd.pid
        print(f"runs as process {pid}" if pid else "does not run")
        return 0 if pid else 1
    return 0

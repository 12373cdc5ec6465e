"""A command inside a lab of one host: ``python -m tests.lab [--hosts N] COMMAND ...``.

This is how the tests that need a Docker daemon get one that is theirs alone. The command runs
in ``h1``, its exit code is returned, and nothing is left afterwards; the machine's own daemon,
firewall and ports stay untouched. ``python -m tests.lab bash`` is for looking around; with
``--hosts 3`` there are two more to talk to.
"""

import argparse
import sys
from pathlib import Path

from tests.lab.lab import Lab


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.lab", description=__doc__)
    parser.add_argument("--hosts", type=int, default=1)
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    if not options.command:
        parser.error("which command?")
    with Lab(options.hosts) as lab:
        return lab.docker_hosts[0].call(options.command, cwd=Path.cwd())


if __name__ == "__main__":
    sys.exit(main())

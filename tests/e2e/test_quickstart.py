"""``scripts/quickstart`` on a machine with no service manager and no Docker running, and back."""

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from scripts.lib.dockerd import CGROUP
from scripts.lib.steps import TREE
from tests.lab import Host, Lab
from tests.lab.cgroups import Cgroup

QUICKSTART = str(TREE / "scripts" / "quickstart")
CLUSTERCTL = str(TREE / ".venv" / "bin" / "clusterctl")
STATE = Path("/var/lib/shoal-dev")
SECONDS = 100.0


@pytest.fixture
def machine() -> Iterator[Host]:
    """A host of the lab, with a folder of its own where the quickstart keeps things."""
    existed = STATE.exists()
    Cgroup(CGROUP).remove_if_empty()  # a test that failed may have left it
    with Lab(hosts=0, controls=1) as lab:
        machine = lab["m1"]
        STATE.mkdir(parents=True, exist_ok=True)
        (machine.folder / "state").mkdir()
        machine.run(["mount", "--bind", str(machine.folder / "state"), str(STATE)])
        yield machine
    if not existed:
        with suppress(OSError):
            STATE.rmdir()


def run(machine: Host, *argv: str) -> str:
    """Run a command as a user who has no settings."""
    environment = {"HOME": str(machine.folder), "SHOAL_ENDPOINT": "198.18.0.9:1"}
    return machine.run([*argv], environment=environment, seconds=SECONDS).stdout


def traces(machine: Host) -> dict[str, str]:
    commands = {
        "processes": "ps -e -o comm= | grep -v -E '^(timeout|sh|ps|grep|sort)$' | sort",
        "files": f"find {STATE} /run",
        "links": "ip -brief link | awk '{print $1}' | sort",
        "firewall": "iptables-save | grep ^- || true",
        "control groups": "find /sys/fs/cgroup -name 'shoal-dev*'",
    }
    return {name: machine.run(["sh", "-c", command]).stdout for name, command in commands.items()}


def test_it_starts_all_and_leaves_nothing(machine: Host) -> None:
    before = traces(machine)

    said = run(machine, QUICKSTART)
    assert len(re.findall(r"hello_web\.\d .* node[123] .* running", said)) == 6
    assert re.search(r"stack hello, all healthy +\d+\.\d s", said), "each step has its time"
    containers = run(machine, "docker", "ps", "-q", "--filter", "health=healthy").split()
    assert len(containers) == 6
    here = (CLUSTERCTL, "--endpoint", "127.0.0.1:7420")
    nodes = json.loads(run(machine, *here, "node", "ls", "--format", "json"))
    assert len(nodes) == 3

    run(machine, QUICKSTART)
    assert run(machine, "docker", "ps", "-q").split() == containers, "again: nothing changes"

    run(machine, *here, "service", "scale", "hello_web=7")
    assert len(run(machine, "docker", "ps", "-q").split()) == 7

    run(machine, *here, "verify", "--for", "0")  # fails if a promise is broken
    said = run(machine, QUICKSTART, "--down")
    assert "stopped, its data removed" in said
    assert traces(machine) == before
    assert "was not started here" in run(machine, QUICKSTART, "--down"), "again: no error"
    assert traces(machine) == before

"""A Docker daemon of our own starts where no service manager does, and leaves no trace."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.lib.dockerd import CGROUP
from scripts.lib.firewall import removal
from scripts.lib.image import archive, find_busybox
from scripts.lib.steps import TREE
from tests.lab import Host, Lab
from tests.lab.cgroups import Cgroup
from tests.lab.images import APP, IMAGES

SCRIPT = str(TREE / "scripts" / "dockerd-local")


@pytest.fixture
def machine() -> Iterator[Host]:
    """A machine with no service manager: its own network, /run and processes."""
    Cgroup(CGROUP).remove_if_empty()  # a test that failed may have left it
    with Lab(hosts=0, controls=1) as lab:
        yield lab["m1"]


def state(machine: Host) -> dict[str, str]:
    """Return all that a Docker daemon changes outside its folders."""
    commands = {
        "links": "ip -brief link | awk '{print $1}' | sort",
        "firewall": "iptables-save | grep -E '^-|^:(DOCKER|FORWARD)' | sed 's/ \\[.*//'",
        "forwarding": "cat /proc/sys/net/ipv4/ip_forward",
        "mounts": "cat /proc/mounts",
        "cgroups": "find /sys/fs/cgroup -name shoal-dev",
        "processes": "ps -e -o comm= | sort -u | grep -E 'docker|containerd' || true",
        "run": "find /run",
    }
    return {name: machine.run(["sh", "-c", command]).stdout for name, command in commands.items()}


def test_it_starts_runs_containers_and_leaves_no_trace(machine: Host) -> None:
    home = machine.folder / "docker"
    images = machine.folder / "images.tar"
    images.write_bytes(archive(IMAGES, find_busybox()))
    machine.run(["sh", "-c", "echo 0 >/proc/sys/net/ipv4/ip_forward"])
    machine.run(["iptables", "-A", "FORWARD", "-s", "198.18.7.0/24", "-j", "DROP"])
    before = state(machine)

    def control(*arguments: str) -> str:
        return machine.run([SCRIPT, *arguments, f"--home={home}"], check=False).stdout

    assert "runs as process" in control("start")
    assert "runs as process" in control("start"), "starting it twice is no error"
    assert "runs as process" in control("status")
    machine.run(["docker", "load", "-i", str(images)])
    machine.run(["docker", "network", "create", "other"])
    machine.run(["docker", "run", "-d", "--net=other", "-p", "8080:80", f"{APP}:1"])
    networks = json.loads(machine.run(["docker", "network", "inspect", "bridge", "other"]).stdout)
    subnets = [network["IPAM"]["Config"][0]["Subnet"] for network in networks]
    assert all(subnet.startswith(("198.18.", "198.19.")) for subnet in subnets), subnets
    assert "DOCKER" in state(machine)["firewall"]

    assert "stopped" in control("stop")
    assert "does not run" in control("status")
    assert state(machine) == before
    assert "8080" not in before["firewall"]
    assert "198.18.7.0/24" in before["firewall"], "others' rules stay"
    assert home.exists(), "images and containers stay"

    control("start")
    assert "Exited" in machine.run(["docker", "ps", "-a"]).stdout
    control("stop", "--delete")
    assert state(machine) == before
    assert not home.exists()
    assert "did not run" in control("stop", "--delete")


def test_it_yields_to_a_daemon_that_is_there() -> None:
    with Lab(hosts=1) as lab:
        refused = lab["h1"].run([SCRIPT, "start"], check=False)
        assert refused.returncode == 1
        assert "another Docker daemon answers at /run/docker.sock" in refused.stderr
        assert not Path("/run/shoal-dev").exists()


def test_a_failed_start_tells_why(machine: Host) -> None:
    home = machine.folder / "docker"
    home.mkdir()
    (home / "data").write_text("not a folder")
    failed = machine.run([SCRIPT, "start", f"--home={home}"], check=False)
    assert failed.returncode == 1
    assert "dockerd did not start" in failed.stderr
    assert "points to a file" in failed.stderr


def test_only_docker_s_part_of_a_table_is_removed() -> None:
    lines = [
        ":FORWARD DROP [0:0]",
        ":DOCKER - [0:0]",
        ":MINE - [0:0]",
        "-A FORWARD -j MINE",
        "-A FORWARD -o docker0 -j DOCKER",
        "-A FORWARD -i br-0123456789ab -j ACCEPT",
        "-A DOCKER -d 198.18.255.2/32 -j ACCEPT",
        "COMMIT",
    ]
    assert removal("filter", lines, "ACCEPT").splitlines() == [
        "*filter",
        ":FORWARD ACCEPT [0:0]",
        "-D FORWARD -o docker0 -j DOCKER",
        "-D FORWARD -i br-0123456789ab -j ACCEPT",
        "-F DOCKER",
        "-X DOCKER",
        "COMMIT",
    ]

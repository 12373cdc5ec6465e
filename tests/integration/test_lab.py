"""The lab itself: without it, what the tests of several hosts say would mean nothing."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.lib.steps import TREE
from tests.lab import APP, Lab, wait_until
from tests.lab.cgroups import ROOT
from tests.lab.leftovers import BASE, PREFIX
from tests.lab.process import Process
from tests.lab.switch import LongCable

LISTEN = """
import socket
heard = socket.socket(type=socket.SOCK_DGRAM)
heard.bind(("", 9999))
heard.settimeout(1)
print("listening", flush=True)
print(heard.recv(100))
"""

SEND = """
import socket, sys
socket.socket(type=socket.SOCK_DGRAM).sendto(b"a datagram", (sys.argv[1], 9999))
"""


def traces(lab_id: str) -> dict[str, list[str]]:
    """Return all that the machine still has of a lab, by kind."""
    found: dict[str, list[str]] = {"folders": [], "processes": [], "mounts": [], "cgroups": []}
    if (BASE / lab_id).exists():
        found["folders"].append(str(BASE / lab_id))
    for process in Path("/proc").glob("[0-9]*"):
        try:
            told = (process / "cgroup").read_text() + (process / "cmdline").read_text()
        except OSError:
            continue
        if lab_id in told:
            found["processes"].append(f"{process.name}: {told}")
    found["mounts"] = [
        line for line in Path("/proc/mounts").read_text().splitlines() if lab_id in line
    ]
    found["cgroups"] = [str(path) for path in [*ROOT.glob(lab_id), *ROOT.glob(f"*/{lab_id}")]]
    return {kind: rows for kind, rows in found.items() if rows}


def links() -> set[str]:
    """Return the network links of the namespace that the tests run in."""
    return {path.name for path in Path("/sys/class/net").iterdir()}


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(hosts=2, controls=1) as lab:
        yield lab


def reaches(lab: Lab, source: str, target: str) -> bool:
    argv = ["ping", "-c1", "-W1", lab[target].address]
    return lab[source].run(argv, check=False).returncode == 0


def test_hosts_reach_each_other_and_nothing_else(lab: Lab) -> None:
    for source, target in [("h1", "h2"), ("h2", "m1"), ("m1", "h1")]:
        assert reaches(lab, source, target), f"{source} -> {target}"
    assert lab.run(["ping", "-c1", "-W1", lab["h1"].address]).returncode == 0

    routes = lab["h1"].run(["ip", "-4", "route", "show", "default"]).stdout
    assert routes == ""


def test_a_long_cable_delays_and_loses_and_damages_nothing(lab: Lab) -> None:
    m1, h1 = lab["m1"], lab["h1"]

    def round_trips(count: int) -> list[float]:
        said = h1.run(["ping", "-i0.02", f"-c{count}", "-W1", m1.address], check=False).stdout
        return [float(each) for each in re.findall(r"time=([0-9.]+) ms", said)]

    h1.lengthen(LongCable(0.05, 0.05, jitter_seconds=0.02))
    try:
        trips = round_trips(5)
        assert len(trips) == 5
        assert min(trips) >= 100.0, "each way takes at least 50 ms"
        # More than a packet holds: what network cards would cut up and sum arrives whole.
        sent = "x" * 200_000
        h1.spawn("echo", ["busybox", "nc", "-l", "-p", "9998", "-e", "cat"])
        got = m1.run(["sh", "-c", f"busybox nc -w5 {h1.address} 9998"], stdin=sent).stdout
        assert got == sent
    finally:
        h1.shorten()
    ports = ["ip", "-brief", "link", "show", "master", "lab0"]
    assert "port-h1@" in lab.run(ports).stdout
    assert "long-h1" not in lab.run(ports).stdout
    h1.lengthen(LongCable(loss=0.5, seed=7))
    try:
        assert 1 <= len(round_trips(20)) <= 15
    finally:
        h1.shorten()
    assert len(round_trips(3)) == 3


def test_a_paused_program_goes_on_can_be_killed_and_holds_up_nobody(lab: Lab) -> None:
    h1 = lab["h1"]
    program = h1.spawn("counting", ["sh", "-c", "while sleep 0.01; do echo x; done"])
    wait_until(program.output, "it counts")
    program.pause()
    assert state_of(program) == "T"
    program.resume()
    before = len(program.output())
    wait_until(lambda: len(program.output()) > before, "it goes on")
    program.pause()
    program.kill()
    assert not program.is_running
    with Lab(hosts=0, controls=1) as other:
        name = other.id
        other.controls[0].spawn("paused", ["sleep", "1000"]).pause()
    assert traces(name) == {}


def state_of(program: Process) -> str:
    return Path(f"/proc/{program.pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_each_host_is_a_machine_of_its_own(lab: Lab) -> None:
    def seen(argv: list[str]) -> list[str]:
        return [host.run(argv).stdout.strip() for host in lab.hosts]

    assert seen(["hostname"]) == ["m1", "h1", "h2"]
    assert len(set(seen(["cat", "/etc/machine-id"]))) == 3
    assert seen(["cat", "/proc/1/comm"]) == ["tini"] * 3
    assert seen(["sh", "-c", "ls /sys/class/net | grep -c eth0"]) == ["1"] * 3
    engines = {host.docker.info()["ID"] for host in lab.docker_hosts}
    assert len(engines) == 2


def test_a_container_serves_and_is_limited(lab: Lab) -> None:
    h1 = lab.docker_hosts[0]
    container = h1.docker.containers.run(
        f"{APP}:2",
        detach=True,
        environment={"PORT": "80"},
        hostname="web",
        ports={"80/tcp": 8080},
        mem_limit="32m",
        healthcheck={"test": ["CMD", "/bin/healthy"], "interval": 200_000_000},
    )

    def health() -> str:
        container.reload()
        return str(container.health)

    try:
        wait_until(lambda: health() == "healthy", "the container is healthy")
        for client in (lab, lab["h2"]):
            answer = client.run(["curl", "-fsS", "-m3", f"http://{h1.address}:8080/"]).stdout
            assert answer == "web 2\n"
        groups = [ROOT / "memory" / lab.id / "h1", ROOT / lab.id / "h1"]
        limits = [
            path.read_text().strip()
            for group in groups
            for name in ("memory.limit_in_bytes", "memory.max")
            for path in group.glob(f"{container.id}/{name}")
        ]
        assert limits == [str(32 * 1024 * 1024)]

        container.exec_run(["touch", "/tmp/sick"])
        wait_until(lambda: health() == "unhealthy", "the container is unhealthy")

        before = time.monotonic()
        container.stop(timeout=10)
        assert time.monotonic() - before < 5, "the image should end at TERM, not be killed"
        container.reload()
        assert container.attrs["State"]["ExitCode"] == 0
    finally:
        container.remove(force=True)


def test_a_cut_host_is_alone_until_healed(lab: Lab) -> None:
    lab["h1"].cut()
    assert not reaches(lab, "h2", "h1")
    assert lab.docker_hosts[0].docker.ping(), "the daemon is reached beside the network"

    lab["h1"].heal()
    wait_until(lambda: reaches(lab, "h2", "h1"), "the healed host is reached")


def test_a_link_fails_in_one_direction_alone(lab: Lab) -> None:
    def received(source: str, target: str) -> bool:
        """Send one datagram to a listener on *target*; tell whether it came."""
        listener = lab[target].spawn("listen", [sys.executable, "-c", LISTEN])
        wait_until(lambda: "listening" in listener.output(), "the listener listens")
        lab[source].run([sys.executable, "-c", SEND, lab[target].address])
        listener.wait()
        came = "a datagram" in listener.output()
        listener.log.unlink()
        return came

    assert received("m1", "h2")
    lab.block(lab["m1"], lab["h2"])
    try:
        assert not received("m1", "h2")
        assert received("h2", "m1")
        assert reaches(lab, "m1", "h1")
    finally:
        lab.unblock(lab["m1"], lab["h2"])
    assert received("m1", "h2")


def test_a_frozen_host_answers_nothing_and_goes_on_afterwards(lab: Lab) -> None:
    ticker = lab["m1"].spawn("tick", ["sh", "-c", "while :; do echo tick; sleep 0.05; done"])
    wait_until(ticker.output, "it ticks")

    lab["m1"].freeze()
    stood = ticker.output()
    assert ticker.is_running
    assert reaches(lab, "h1", "m1"), "its network stack is the kernel's, and lives"
    assert ticker.output() == stood

    lab["m1"].thaw()
    wait_until(lambda: len(ticker.output()) > len(stood), "it ticks on")
    ticker.kill()
    assert not ticker.is_running


def test_containers_outlive_a_killed_dockerd(lab: Lab) -> None:
    h2 = lab.docker_hosts[1]
    container = h2.docker.containers.run(f"{APP}:1", name="it", detach=True)
    container.reload()
    pid = container.attrs["State"]["Pid"]
    h2.kill_dockerd()
    assert h2.run(["cat", f"/proc/{pid}/comm"]).stdout.strip() == "app"

    h2.start_dockerd()
    h2.docker.containers.get("it").remove(force=True)


def test_a_crash_takes_all_at_once_and_a_boot_finds_the_disk(lab: Lab) -> None:
    h2 = lab.docker_hosts[1]
    h2.docker.containers.run(f"{APP}:1", name="it", detach=True)
    sleeper = h2.spawn("sleeper", ["sleep", "1000"])
    (h2.folder / "kept").write_text("on disk")

    before = time.monotonic()
    h2.crash()
    assert time.monotonic() - before < 1
    assert not sleeper.is_running
    assert h2.pids() == set()
    assert not Path(f"/proc/{sleeper.pid}").exists()
    assert not reaches(lab, "h1", "h2")
    with pytest.raises(RuntimeError, match="h2 is down"):
        h2.run(["true"])

    h2.boot()
    assert reaches(lab, "h1", "h2"), "the address answers at once, no neighbour entry is stale"
    assert h2.run(["cat", str(h2.folder / "kept")]).stdout == "on disk"
    dead = h2.docker.containers.get("it")
    assert dead.status == "exited"
    dead.remove()


def test_a_frozen_host_with_a_paused_container_can_still_crash(lab: Lab) -> None:
    h1 = lab.docker_hosts[0]
    container = h1.docker.containers.run(f"{APP}:1", name="it", detach=True)
    container.pause()
    h1.freeze()
    h1.crash()
    h1.boot()
    h1.docker.containers.get("it").remove(force=True)


def test_a_failing_command_tells_what_it_said(lab: Lab) -> None:
    with pytest.raises(RuntimeError, match=r"in m1, exit code 7: .*\nno luck"):
        lab["m1"].run(["sh", "-c", "echo no luck >&2; exit 7"])
    with pytest.raises(RuntimeError, match=r"exit code -9: sleep 10"):
        lab["m1"].run(["sleep", "10"], seconds=0.1)


def test_nothing_is_left_of_a_closed_lab() -> None:
    before = links()
    with Lab(hosts=1, controls=1) as lab:
        lab_id = lab.id
        h1 = lab.docker_hosts[0]
        h1.docker.containers.run(f"{APP}:1", detach=True).pause()
        lab["m1"].spawn("sleeper", ["sleep", "1000"])
        lab["m1"].freeze()
        assert set(traces(lab_id)) == {"folders", "processes", "cgroups"}
    assert traces(lab_id) == {}
    assert links() == before


def test_nothing_is_left_when_a_lab_fails_half_way() -> None:
    ids: list[str] = []

    class Failing(Lab):
        def _open(self, template: Path | None) -> None:
            super()._open(template)
            ids.append(self.id)
            raise LookupError

    with pytest.raises(LookupError), Failing(hosts=0, controls=2):
        pass
    assert traces(ids[0]) == {}


def test_a_killed_run_leaves_nothing_alive_and_the_next_lab_sweeps_the_rest() -> None:
    program = (
        "from tests.lab import Lab\n"
        "with Lab(hosts=0, controls=1) as lab:\n"
        "    lab['m1'].spawn('sleeper', ['sleep', '1000'])\n"
        "    print(lab.id, flush=True)\n"
        "    input()\n"
    )
    killed = subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=TREE,
        env={**os.environ, "PYTHONPATH": str(TREE)},
    )
    assert killed.stdout is not None
    lab_id = killed.stdout.readline().strip()
    assert lab_id.startswith(PREFIX)

    with Lab(hosts=0, controls=1) as beside:
        assert "processes" in traces(lab_id), "a living lab is left alone"
        assert beside["m1"].run(["hostname"]).stdout == "m1\n", "both have an m1"

        killed.send_signal(signal.SIGKILL)
        killed.communicate()
        wait_until(lambda: "processes" not in traces(lab_id), "its processes end")
        assert traces(lab_id)["folders"], "this much the kernel cannot take down"

        with Lab(hosts=0, controls=0):
            assert traces(lab_id) == {}
        assert "processes" in traces(beside.id)

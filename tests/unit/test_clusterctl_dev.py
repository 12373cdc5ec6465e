"""The processes of a development cluster: found again, never confused, never left behind."""

import json
import os
import socket
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from agent.settings import AgentSettings
from cluster.errors import InvalidError, StateError
from cluster.settings import load
from clusterctl.dev import plan
from clusterctl.dev.down import end
from clusterctl.dev.plan import Plan
from clusterctl.dev.processes import Daemon, DaemonError, Identity, identity_of
from clusterctl.dev.up import choose, locked
from manager.config import ManagerSettings, check

SLEEP = [sys.executable, "-c", "import time; print('here', flush=True); time.sleep(60)"]
DEAF = [
    *(sys.executable, "-c"),
    "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + SLEEP[2],
]


@pytest.fixture
def daemon(tmp_path: Path) -> "Daemon":
    return Daemon("sleeper", tmp_path / "run")


def wait_for_output(daemon: Daemon) -> None:
    until = time.monotonic() + 20
    while "here" not in daemon.tail():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_it_is_found_again_and_stopped(daemon: Daemon) -> None:
    assert daemon.running() is None
    daemon.start(SLEEP, os.environ)
    found = Daemon("sleeper", daemon.folder).running()
    assert found is not None
    assert os.getsid(found.pid) == found.pid  # a session of its own: a closed terminal ends nothing
    wait_for_output(daemon)
    assert daemon.stop()
    assert daemon.running() is None
    assert identity_of(found.pid) is None
    assert not daemon.file.exists()
    assert not daemon.stop()


def test_one_that_does_not_listen_is_killed(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clusterctl.dev.processes.STOP_SECONDS", 0.1)
    daemon.start(DEAF, os.environ)
    wait_for_output(daemon)
    assert daemon.stop()
    assert daemon.running() is None


def test_a_process_id_that_was_used_again_is_left_alone(daemon: Daemon) -> None:
    other = Daemon("other", daemon.folder)
    other.start(SLEEP, os.environ)
    now = other.running()
    assert now is not None
    for stale in (
        replace(now, start_ticks=now.start_ticks - 1),
        replace(now, boot="another boot"),
    ):
        daemon.file.write_text(json.dumps(asdict(stale)))
        assert daemon.running() is None
        assert not daemon.stop()
    assert other.running() == now
    assert other.stop()


@pytest.mark.parametrize("text", ["", "12", "{}", '{"pid": 1}', "[]"])
def test_a_file_that_says_nothing_means_that_nothing_runs(daemon: Daemon, text: str) -> None:
    daemon.folder.mkdir()
    daemon.file.write_text(text)
    assert daemon.running() is None


def test_a_process_that_has_ended_is_not_running_though_nobody_waited_for_it(
    daemon: Daemon,
) -> None:
    daemon.start([sys.executable, "-c", "print('here', flush=True)"], os.environ)
    wait_for_output(daemon)
    until = time.monotonic() + 20
    while daemon.running() is not None:
        assert time.monotonic() < until
        time.sleep(0.01)
    assert "ends:\nhere" in daemon.told("ended")


def test_a_program_that_is_not_there_is_told(daemon: Daemon) -> None:
    with pytest.raises(DaemonError, match="cannot start sleeper"):
        daemon.start(["/no/such/program"], os.environ)


def test_our_own_identity() -> None:
    mine = identity_of(os.getpid())
    assert mine is not None
    assert mine.pid == os.getpid()
    assert identity_of(2**22 + 5) is None
    assert isinstance(mine, Identity)


# --- the plan ---

PLAN = Plan(
    folder="/dev-folder",
    port=7420,
    etcd_port=23790,
    etcd_peer_port=23791,
    agents=2,
    docker="unix:///d.sock",
    cpu_nanos=666_666_666,
    memory_bytes=1000,
)


def test_command_lines() -> None:
    assert list(PLAN.daemons) == ["etcd", "manager", "node1", "node2"]
    etcd = PLAN.arguments("etcd", "/usr/bin/etcd")
    assert etcd[:3] == ["/usr/bin/etcd", "--name", "dev"]
    assert etcd[etcd.index("--max-txn-ops") + 1] == "1024"
    assert all("0.0.0.0" not in part for part in etcd)
    manager = PLAN.arguments("manager", "")
    assert manager[1:] == [
        *("-m", "manager", "--listen", "127.0.0.1:7420", "--advertise", "127.0.0.1:7420"),
        *("--etcd", "127.0.0.1:23790"),
    ]
    agent = PLAN.arguments("node2", "")
    assert agent[agent.index("--hostname") + 1] == "node2"
    assert agent[agent.index("--cpus") + 1] == "0.666666666"
    assert agent[agent.index("--state-dir") + 1] == "/dev-folder/node2"


def test_flags_are_those_of_manager_and_agent() -> None:
    manager = load(ManagerSettings, "manager", PLAN.arguments("manager", "")[3:], {})
    check(manager)
    agent = load(AgentSettings, "agent", PLAN.arguments("node1", "")[3:], {})
    agent.check()
    assert agent.managers == (manager.listen,)
    assert agent.hostname == "node1"


def test_a_plan_is_kept(tmp_path: Path) -> None:
    kept = replace(PLAN, folder=str(tmp_path / "deep"))
    kept.save()
    assert plan.load(tmp_path / "deep") == kept
    assert plan.load(tmp_path) is None
    (tmp_path / "cluster.json").write_text("{}")
    with pytest.raises(InvalidError, match="does not describe a cluster"):
        plan.load(tmp_path)


def test_settings_of_others_do_not_reach_the_processes() -> None:
    environment = plan.environment({"SHOAL_MANAGER_LISTEN": "x", "ETCD_NAME": "y", "PATH": "z"})
    assert set(environment) == {"PATH", "PYTHONPATH", "PYTHONUNBUFFERED"}
    assert (Path(environment["PYTHONPATH"]) / "cluster").is_dir()


def test_shares_add_up_to_no_more_than_the_machine() -> None:
    cpus, memory = plan.share(2, 1000, 3)
    assert 3 * cpus <= 2 * 10**9
    assert 3 * memory <= 1000


# --- up and down ---


def chosen(folder: Path, *, agents: int | None = None, port: int | None = None) -> Plan:
    return choose(folder, agents=agents, port=port, docker_address="unix:///d")


def test_what_runs_keeps_its_ports_and_may_grow(tmp_path: Path) -> None:
    old = replace(PLAN, folder=str(tmp_path), port=7599)
    old.save()
    assert chosen(tmp_path) == old
    assert chosen(tmp_path, agents=5) == replace(old, agents=5)
    assert chosen(tmp_path, agents=1) == old
    with pytest.raises(InvalidError, match="is at port 7599"):
        chosen(tmp_path, port=7600)


def test_a_port_in_use_is_refused(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(StateError, match=f"port {port} is in use: choose another"):
            chosen(tmp_path, port=port)


def test_only_one_is_at_work_in_a_folder(tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(StateError, match="another"), locked(tmp_path):
        pass
    with locked(tmp_path):
        pass


def test_down_ends_processes_and_removes_only_its_own_files(tmp_path: Path) -> None:
    folder = tmp_path / "dev"
    known = replace(PLAN, folder=str(folder))
    known.save()
    known.daemons["node1"].start(SLEEP, os.environ)
    for name in ("etcd", "node1", "node2", "docker", "nodes"):
        (folder / name).mkdir(exist_ok=True)
    (folder / "notes.txt").write_text("mine")
    lines: list[str] = []
    assert end(folder, lines.append, volumes=True)
    assert sorted(path.name for path in folder.iterdir()) == ["docker", "nodes", "notes.txt"]
    assert known.daemons["node1"].running() is None
    assert lines == ["stopped 1 process"]
    assert not end(folder, lines.append, volumes=True)


def test_down_removes_an_empty_folder(tmp_path: Path) -> None:
    folder = tmp_path / "dev"
    replace(PLAN, folder=str(folder)).save()
    assert end(folder, lambda _: None, volumes=True)
    assert not folder.exists()

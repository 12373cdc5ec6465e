"""A development cluster with real etcd, manager, agents and Docker: up, used, and gone again."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from clusterctl.dev.processes import identity_of
from tests.harness.dockerd import IMAGE, Dockerd, dockerd

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 100.0
COMPOSE = f"""
services:
  web:
    image: {IMAGE}
    volumes: [data:/data]
    stop_grace_period: 1s
    deploy: {{replicas: 2}}
volumes:
  data:
"""

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def docker() -> Iterator[Dockerd]:
    with dockerd() as daemon:
        yield daemon


@pytest.fixture
def run(tmp_path: Path, docker: Dockerd) -> Iterator[Run]:
    kept = {name: text for name, text in os.environ.items() if not name.startswith("SHOAL_")}
    environment = {
        **kept,
        "HOME": str(tmp_path),
        "PYTHONPATH": str(ROOT),
        "DOCKER_HOST": docker.url,
    }

    def clusterctl(
        *arguments: str, code: int = 0, stdin: str = ""
    ) -> "subprocess.CompletedProcess[str]":
        done = subprocess.run(
            [sys.executable, "-m", "clusterctl", *arguments],
            env=environment,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert done.returncode == code, f"{arguments}: {done.stdout}\n{done.stderr}"
        return done

    yield clusterctl
    clusterctl("dev", "down", "--dir", str(tmp_path / "dev"))


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def processes(run: Run, folder: str, *, code: int = 0) -> dict[str, int | None]:
    found = json.loads(run("dev", "status", "--dir", folder, "--format", "json", code=code).stdout)
    return {each["name"]: each["pid"] for each in found}


def test_up_use_repair_and_down(run: Run, docker: Dockerd, tmp_path: Path) -> None:
    folder = str(tmp_path / "dev")
    up = run("dev", "up", "--dir", folder, "--port", free_port(), "--agents", "2")
    assert "node2 is ready" in up.stderr
    # Its port is not the usual one: it is found all the same, by a context.
    names = run("node", "ls", "--format", "{{.Name}} {{.Status}}").stdout
    assert names == "node1 ready\nnode2 ready\n"

    run("stack", "deploy", "-c", "-", "demo", stdin=COMPOSE)
    assert len(docker.client().containers.list()) == 2

    before = processes(run, folder)
    assert "everything runs already" in run("dev", "up", "--dir", folder).stderr
    assert processes(run, folder) == before

    lost = before["node1"]
    assert lost is not None
    os.kill(lost, 9)
    assert processes(run, folder, code=1)["node1"] is None
    run("dev", "up", "--dir", folder, "--agents", "3")
    after = processes(run, folder)
    assert after["node1"] not in (None, lost)
    assert set(after) == {*before, "node3"}
    assert {name: after[name] for name in ("etcd", "manager", "node2")} == {
        name: before[name] for name in ("etcd", "manager", "node2")
    }

    foreign = docker.client().containers.run(IMAGE, name="foreign", detach=True)
    run("dev", "down", "--dir", folder)
    assert [each.name for each in docker.client().containers.list(all=True)] == ["foreign"]
    assert {each.name for each in docker.client().networks.list()} == {"bridge", "host", "none"}
    assert docker.client().volumes.list() == []
    assert not Path(folder).exists()
    assert not (tmp_path / ".config" / "shoal").exists()
    assert all(pid is None or identity_of(pid) is None for pid in after.values())
    foreign.remove(force=True)
    assert "no cluster in" in run("dev", "down", "--dir", folder).stdout


def test_what_is_missing_is_told_before_anything_starts(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "dev"
    arguments = ("dev", "up", "--dir", str(folder), "--docker", "unix:///no/such/socket")
    refused = run(*arguments, code=1)
    assert refused.stderr.startswith("error: Docker does not answer at unix:///no/such/socket")
    assert not folder.exists()

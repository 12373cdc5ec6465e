"""What a compose file says reaches the container, and what it writes and serves gets out."""

import json
import sys
from pathlib import Path

from docker.models.containers import Container

from scripts.lib.steps import TREE
from tests.e2e.cluster import LabCluster
from tests.lab.docker_host import DockerHost
from tests.lab.host import Host
from tests.lab.waiting import wait_until

PORT = 18080

SERVING = f"""
services:
  web:
    image: shoal-test/app:1
    environment: {{PORT: "8080"}}
    ports: [{{target: 8080, published: {PORT}, mode: host}}]
    deploy: {{replicas: 2}}
"""

TALKING = """
services:
  web:
    image: shoal-test/app:1
    environment: {PORT: "8080"}
    deploy: &on_h1 {placement: {constraints: [node.hostname == h1]}}
  other:
    image: shoal-test/app:1
    deploy: *on_h1
"""

MOUNTED = """
services:
  web:
    image: shoal-test/app:1
    volumes:
      - {folder}:/given:ro
      - data:/data
      - {{type: tmpfs, target: /scratch, tmpfs: {{size: 1M}}}}
    deploy: {{placement: {{constraints: [node.hostname == h1]}}}}
volumes:
  data:
"""

PARTICULAR = """
services:
  web:
    image: shoal-test/app:1
    entrypoint: [/bin/sh, -c]
    command: ["exec /bin/app"]
    environment: {COLOUR: "${COLOUR:-green}"}
    user: "1000:1001"
    working_dir: /tmp
    hostname: box
    labels: {made.by: tests}
    cap_drop: [ALL]
    cap_add: [NET_BIND_SERVICE]
    init: true
    read_only: true
    tmpfs: /tmp
    stop_signal: SIGINT
    stop_grace_period: 3s
    ulimits: {nofile: {soft: 100, hard: 200}}
    sysctls: {net.ipv4.ip_unprivileged_port_start: "80"}
    logging: {driver: json-file, options: {max-size: 1m}}
    deploy:
      resources:
        limits: {cpus: "0.5", memory: 64M, pids: 50}
        reservations: {memory: 32M}
"""


def asked(host: Host, at: DockerHost) -> str:
    """Return what the published port of *at* answers to *host*; empty if it does not."""
    url = f"http://{at.address}:{PORT}/"
    return host.run(["curl", "-s", "--max-time", "5", url], check=False).stdout


def run_in(container: Container, *argv: str) -> str:
    code, output = container.exec_run(list(argv))
    assert isinstance(output, bytes)
    assert code == 0, f"{argv} ended with {code}: {output!r}"
    return output.decode()


def short(container: Container) -> str:
    """Return what the container takes for its host's name."""
    return (container.id or "")[:12]


def test_a_published_port_answers_others_on_the_hosts_of_its_tasks(cluster: LabCluster) -> None:
    cluster.deploy("port", SERVING)

    served = {one.host: cluster.container(one) for one in cluster.seen("port_web")}
    assert len(served) == 2, "two tasks with the same port are never on one host"
    for host in cluster.docker_hosts:
        for client in (cluster.operator, *cluster.docker_hosts):
            if client is host:
                continue
            answer = asked(client, host)
            if host.name in served:
                assert answer == f"{short(served[host.name])} 1\n"
            else:
                assert answer == ""

    cluster.ctl("service", "scale", "--no-wait", "port_web=4")
    cluster.wait_running("port_web", 3)
    waiting = wait_until(
        lambda: [task for task in cluster.tasks("port_web") if task["error"]],
        "the fourth has no host left, and says so",
    )
    assert [task["state"] for task in waiting] == ["pending"]
    assert str(PORT) in waiting[0]["error"]


def test_services_of_a_stack_find_each_other_by_name(cluster: LabCluster) -> None:
    cluster.deploy("talk", TALKING)

    (web,) = (cluster.container(one) for one in cluster.seen("talk_web"))
    (other,) = (cluster.container(one) for one in cluster.seen("talk_other"))
    assert run_in(other, "wget", "-q", "-O", "-", "http://web:8080/") == f"{short(web)} 1\n"


def test_mounts_hold_what_they_should_for_as_long_as_they_should(cluster: LabCluster) -> None:
    host = cluster.docker_hosts[0]
    folder = host.folder / "given"
    folder.mkdir(exist_ok=True)
    (folder / "note").write_text("from the host")
    cluster.deploy("kept", MOUNTED.format(folder=folder))

    (first,) = (cluster.container(one) for one in cluster.seen("kept_web"))
    assert run_in(first, "cat", "/given/note") == "from the host"
    assert first.exec_run(["touch", "/given/more"]).exit_code != 0, "it is read-only"
    run_in(first, "sh", "-c", "echo kept >/data/note; echo lost >/scratch/note")
    assert "size=1024k" in run_in(first, "grep", "/scratch", "/proc/mounts")

    cluster.ctl("service", "update", "--force", "kept_web")
    (second,) = (cluster.container(one) for one in cluster.seen("kept_web"))
    assert second.id != first.id
    assert run_in(second, "cat", "/data/note") == "kept\n"
    assert run_in(second, "ls", "/scratch") == ""

    cluster.ctl("stack", "rm", "kept")
    cluster.wait_bare()
    (volume,) = (volume for volume in host.docker.volumes.list() if "kept_data" in volume.name)
    volume.remove()  # data is never removed with a stack


def test_logs_of_all_tasks_come_together_and_are_followed(cluster: LabCluster) -> None:
    cluster.deploy("told", "services: {web: {image: 'shoal-test/app:1', deploy: {replicas: 3}}}")
    seen = cluster.seen("told_web")

    lines = cluster.ctl("service", "logs", "told_web").stdout.splitlines()
    assert sorted(line.split(" | ")[1] for line in lines) == sorted(
        f"app 1 starts on {one.id[:12]}" for one in seen
    )
    for one in seen:
        assert any(f"told_web.{one.slot} " in line and one.host in line for line in lines)

    log = follow(cluster, "told_web")
    wait_until(lambda: log.read_text().count("app 1 starts") == 3, "what there was is shown")
    for number, one in enumerate(seen):
        run_in(cluster.container(one), "sh", "-c", f"echo line {number} >/proc/1/fd/1")
    wait_until(
        lambda: all(f"| line {number}\n" in log.read_text() for number in range(3)),
        "what comes is shown",
    )


def follow(cluster: LabCluster, service: str) -> Path:
    """Follow a service's logs until its stack is removed; return the file that they go to."""
    argv = [sys.executable, "-m", "clusterctl", "--endpoint", cluster.endpoints]
    return cluster.operator.spawn(
        f"follow-{service}", [*argv, "service", "logs", "-f", service], cwd=TREE
    ).log


def test_settings_of_the_compose_file_reach_the_container(cluster: LabCluster) -> None:
    cluster.deploy("part", PARTICULAR)

    (container,) = (cluster.container(one) for one in cluster.seen("part_web"))
    config, host = container.attrs["Config"], container.attrs["HostConfig"]
    assert config["Entrypoint"] == ["/bin/sh", "-c"]
    assert config["Cmd"] == ["exec /bin/app"]
    assert "COLOUR=green" in config["Env"]
    assert config["User"] == "1000:1001"
    assert config["WorkingDir"] == "/tmp"
    assert config["Hostname"] == "box"
    assert config["Labels"]["made.by"] == "tests"
    assert config["StopSignal"] == "SIGINT"
    assert host["CapDrop"] == ["ALL"]
    assert [name.removeprefix("CAP_") for name in host["CapAdd"]] == ["NET_BIND_SERVICE"]
    assert host["Init"] is True
    assert host["ReadonlyRootfs"] is True
    assert host["Ulimits"] == [{"Name": "nofile", "Soft": 100, "Hard": 200}]
    assert host["Sysctls"] == {"net.ipv4.ip_unprivileged_port_start": "80"}
    assert host["LogConfig"] == {"Type": "json-file", "Config": {"max-size": "1m"}}
    assert host["NanoCpus"] == 500_000_000 or host["CpuQuota"] * 2 == host["CpuPeriod"]
    assert host["Memory"] == 64 * 1024**2
    assert host["PidsLimit"] == 50
    assert host["RestartPolicy"]["Name"] in ("", "no"), "restarting is ours, not Docker's"

    nodes = {node["name"]: node for node in cluster.ctl_json("node", "ls")}
    (task,) = cluster.tasks("part_web")
    assert nodes[task["node"]]["memory_bytes_reserved"] == 32 * 1024**2


def test_what_is_used_and_what_happens_can_be_watched(cluster: LabCluster) -> None:
    cluster.deploy("seen", "services: {web: {image: 'shoal-test/app:1'}}")
    (task,) = cluster.tasks("seen_web")

    def used() -> bool:
        rows = json.loads(cluster.ctl("top", "--tasks", "--once", "--format", "json").stdout)
        return any(row["memory_bytes"] > 0 for row in rows)

    wait_until(used, "its node has told what the task uses", every_seconds=0.5)
    assert task["id"][:12] in cluster.ctl("events", "--stack", "seen").stdout
    assert cluster.ctl("task", "inspect", task["id"]).stdout

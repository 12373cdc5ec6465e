"""What breaks on hosts, and what the cluster makes of it: every slot runs once, soon again."""

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise

import pytest
from docker.errors import NotFound

from tests.e2e.cluster import LabCluster, Seen
from tests.e2e.history import history
from tests.e2e.stacks import web
from tests.lab.cgroups import Cgroup
from tests.lab.docker_host import DockerHost
from tests.lab.waiting import wait_until

CHECKED = """
services:
  web:
    image: shoal-test/app:1
    healthcheck: {test: [CMD, /bin/healthy], interval: 1s, retries: 1}
    deploy: {replicas: 2}
"""

CRASHING = """
services:
  web:
    image: shoal-test/app:1
    environment: {EXIT_AFTER: "0", EXIT_CODE: "7"}
"""


# Room on a small disk, beside what is there already and what a file system needs for itself.
SPARE_MEBIBYTES = 48


def others(seen: list[Seen], host: DockerHost) -> set[Seen]:
    return {one for one in seen if one.host != host.name}


def wait_replaced(cluster: LabCluster, lost: Seen) -> Seen:
    """Wait until another container runs in the slot of *lost*."""

    def successor() -> Seen | None:
        now = [one for one in cluster.seen(lost.service) if one.slot == lost.slot]
        return now[0] if len(now) == 1 and now[0].id != lost.id else None

    found = wait_until(successor, f"slot {lost.slot} of {lost.service} has a successor")
    assert found is not None
    return found


# --- containers ---


@pytest.mark.parametrize("how", ["killed", "removed"])
def test_a_lost_container_has_a_successor_in_its_slot(cluster: LabCluster, how: str) -> None:
    cluster.deploy("lose", web(4))
    lost, *rest = cluster.seen("lose_web")

    if how == "killed":
        cluster.container(lost).kill()
    else:
        cluster.container(lost).remove(force=True)

    successor = wait_replaced(cluster, lost)
    assert set(cluster.seen("lose_web")) == {*rest, successor}
    past = cluster.ctl_json("service", "ps", "--all", "lose_web")
    assert [task["state"] for task in past if task["id"] == lost.task] == ["failed"]


def test_a_container_that_turns_sick_is_replaced(cluster: LabCluster) -> None:
    cluster.deploy("sick", CHECKED)
    lost, *rest = cluster.seen("sick_web")

    cluster.container(lost).exec_run(["touch", "/tmp/sick"])

    wait_replaced(cluster, lost)
    assert set(rest) <= set(cluster.seen("sick_web"))
    past = cluster.ctl_json("service", "ps", "--all", "sick_web")
    (task,) = (task for task in past if task["id"] == lost.task)
    assert task["state"] == "failed"
    assert "unhealthy" in task["error"]


def test_a_container_that_crashes_again_and_again_is_started_less_and_less_often(
    cluster: LabCluster,
) -> None:
    cluster.deploy("loop", CRASHING, "--no-wait")

    def four_starts() -> list[int] | None:
        events = history(cluster, "loop_web")
        found = [event.at_nanos for event in events if event.action == "start"]
        return found if len(found) >= 4 else None

    moments = wait_until(four_starts, "it was started four times") or []
    gaps = [(later - earlier) / 1e9 for earlier, later in pairwise(moments)]
    assert gaps[1] > 0.75, "the second replacement waits for a second, give or take a quarter"
    assert gaps[2] > 1.5, "and the third for two"
    past = cluster.ctl_json("service", "ps", "--all", "loop_web")
    assert "exited with code 7" in {task["error"] for task in past}


# --- agents ---


@pytest.mark.usefixtures("patience")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_an_agent_that_restarts_touches_no_container(
    cluster: LabCluster, number: signal.Signals
) -> None:
    cluster.deploy("stay", web(4))
    before = cluster.starts("stay_web")
    host = cluster.docker_hosts[0]
    agent = cluster.agents[host.name]

    agent.signal(number)
    code = agent.wait()
    if number is signal.SIGTERM:
        assert code == 0
    assert cluster.starts("stay_web") == before
    cluster.start_agent(host)

    # It is back when it does as it is told: the new ones come to it too.
    cluster.wait_nodes(ready=3)
    cluster.ctl("service", "scale", "stay_web=6")
    after = cluster.starts("stay_web")
    assert before.items() <= after.items()
    assert len(after) == 6


@pytest.mark.usefixtures("patience")
def test_what_ends_while_the_agent_is_away_is_noticed_afterwards(cluster: LabCluster) -> None:
    cluster.deploy("away", web(4))
    host = cluster.docker_hosts[0]
    lost = next(one for one in cluster.seen("away_web") if one.host == host.name)
    rest = set(cluster.seen("away_web")) - {lost}

    cluster.agents[host.name].kill()
    cluster.container(lost).kill()
    cluster.start_agent(host)

    wait_replaced(cluster, lost)
    assert rest <= set(cluster.seen("away_web"))


@pytest.mark.usefixtures("patience")
def test_containers_of_others_are_left_alone(cluster: LabCluster) -> None:
    host = cluster.docker_hosts[0]
    foreign = host.docker.containers.run("shoal-test/app:1", detach=True, name="mine.1.abc")
    try:
        cluster.deploy("own", web(4))
        cluster.agents[host.name].kill()
        cluster.start_agent(host)
        cluster.wait_nodes(ready=3)
        cluster.ctl("stack", "rm", "own")
        cluster.wait_bare()
        foreign.reload()
        assert foreign.attrs["State"]["Running"]
        assert foreign.attrs["RestartCount"] == 0
    finally:
        foreign.remove(force=True)


# --- hosts ---


def test_the_tasks_of_a_host_that_dies_run_elsewhere(cluster: LabCluster) -> None:
    cluster.deploy("dies", web(6))
    dead = cluster.docker_hosts[1]
    rest = others(cluster.seen("dies_web"), dead)

    dead.crash()

    elsewhere = cluster.wait_running("dies_web", 6)
    assert rest <= set(elsewhere)
    cluster.wait_nodes(ready=2)

    # Its Docker still has the dead containers, and nothing that starts them.
    dead.boot()
    cluster.start_agent(dead)
    cluster.wait_nodes(ready=3)
    assert set(cluster.seen("dies_web")) == set(elsewhere)
    cluster.ctl("service", "scale", "dies_web=9")
    nine = cluster.seen("dies_web")
    assert {one.slot for one in nine} == set(range(1, 10))
    assert [one.host for one in nine if one not in elsewhere] == [dead.name] * 3


@pytest.mark.parametrize("how", ["cut off", "unheard", "hung", "agent hung"])
def test_a_host_that_comes_back_stops_what_runs_elsewhere_by_then(
    cluster: LabCluster, how: str
) -> None:
    cluster.deploy("back", web(6))
    away = cluster.docker_hosts[2]
    before = cluster.starts("back_web")
    rest = [host for host in cluster.docker_hosts if host is not away]

    match how:
        case "cut off":
            away.cut()
        case "unheard":  # it hears the managers, and they do not hear it
            for manager in cluster.manager_hosts:
                cluster.lab.block(away, manager)
        case "hung":
            away.freeze()
        case "agent hung":
            cluster.agents[away.name].pause()
    elsewhere = cluster.wait_running("back_web", 6, hosts=rest)
    if how != "hung":
        assert before.items() <= cluster.starts("back_web").items(), "nothing is stopped blindly"
    match how:
        case "cut off":
            away.heal()
        case "unheard":
            cluster.lab.unblock_all()
        case "hung":
            away.thaw()
        case "agent hung":
            cluster.agents[away.name].resume()

    cluster.wait_running("back_web", 6)
    assert set(cluster.seen("back_web")) == set(elsewhere)
    cluster.wait_nodes(ready=3)


# --- Docker daemons ---


def test_containers_that_outlive_their_daemon_are_adopted(cluster: LabCluster) -> None:
    host = cluster.docker_hosts[0]
    with live_restore(cluster, host):
        cluster.deploy("adopt", web(4))
        before = cluster.starts("adopt_web")
        lost = next(one for one in cluster.seen("adopt_web") if one.host == host.name)

        host.kill_dockerd()
        Cgroup(f"{cluster.lab.id}/{host.name}/{lost.id}").kill()
        host.start_dockerd()

        wait_replaced(cluster, lost)
        del before[lost.id]
        assert before.items() <= cluster.starts("adopt_web").items()


@pytest.mark.parametrize("condition", ["any", "on-failure"])
def test_containers_that_end_with_their_daemon_are_replaced(
    cluster: LabCluster, condition: str
) -> None:
    cluster.deploy("redo", web(4, f"restart_policy: {{condition: {condition}}}"))
    host = cluster.docker_hosts[0]
    before = cluster.seen("redo_web")

    host.kill_dockerd()
    host.start_dockerd()

    def are_replaced() -> bool:
        now = set(cluster.seen("redo_web"))
        return len(now) == 4 and others(before, host) == now & set(before)

    wait_until(are_replaced, "those of the other hosts run on, and four in all")
    assert {one.slot for one in cluster.seen("redo_web")} == {1, 2, 3, 4}
    cluster.wait_nodes(ready=3)


def test_a_daemon_that_hangs_holds_up_nobody_else(cluster: LabCluster) -> None:
    cluster.deploy("wait", web(3))
    before = cluster.starts("wait_web")
    host = cluster.docker_hosts[0]
    rest = cluster.docker_hosts[1:]
    assert host.dockerd is not None

    host.dockerd.pause()
    cluster.ctl("service", "scale", "--no-wait", "wait_web=9")
    cluster.wait_running("wait_web", 6, hosts=rest)
    assert {node["status"] for node in cluster.ctl_json("node", "ls")} == {"ready"}
    host.dockerd.resume()

    cluster.wait_running("wait_web", 9)
    assert before.items() <= cluster.starts("wait_web").items()


@pytest.mark.timeout(240)  # two restarts of a daemon, and 90 s to find out which hosts are full
def test_a_host_whose_disk_is_full_says_so_and_others_run_its_tasks(cluster: LabCluster) -> None:
    host = cluster.docker_hosts[0]
    # Before the daemon stops: Docker 20.10 never starts again if that meets it in the middle of
    # removing a network, such as one of the test before.
    cluster.deploy("full", web(3))
    with small_disk(host):
        cluster.wait_running("full_web", 3)
        cluster.ctl("service", "scale", "full_web=6")
        before = cluster.starts("full_web")
        assert {one.host for one in cluster.seen("full_web")} > {host.name}

        # What a file system keeps for its own books it gives in the end.
        fill = f"for _ in 1 2 3; do cat /dev/zero >>{host.data_root}/full; sync; done"
        host.run(["sh", "-c", fill], check=False)
        cluster.ctl("service", "scale", "--no-wait", "full_web=18")

        # Five failures on one host, and others are tried first.
        wait_until(lambda: slots_that_run(cluster, "full_web") == 18, "18 run", seconds=90.0)
        assert before.items() <= cluster.starts("full_web").items(), "what runs runs on"
        past = cluster.ctl_json("service", "ps", "--all", "full_web")
        assert any("no space left on device" in task["error"] for task in past)
        cluster.ctl("stack", "rm", "full")


def slots_that_run(cluster: LabCluster, service: str) -> int:
    """Return how many slots of the service have a container that runs, whatever lists say.

    What failed on a full disk leaves a little room there, and now and then another starts in it.
    Docker lists that one as created, as it could not write down that it runs; asked for it alone,
    it tells.
    """
    running = set()
    for seen in cluster.seen(service, everything=True):
        with suppress(NotFound):  # it has gone meanwhile
            if cluster.container(seen).attrs["State"]["Running"]:
                running.add(seen.slot)
    return len(running)


@contextmanager
def small_disk(host: DockerHost) -> Iterator[None]:
    """Give the host's Docker daemon a file system of its own, with room for little.

    It is mounted over what the daemon has, and goes with the host's mounts whatever happens.
    """
    data, image, side = host.data_root, host.folder / "small-disk", host.folder / "side"

    def without_docker(*commands: str) -> None:
        host.stop_dockerd()
        host.run(["sh", "-exc", "\n".join(commands)])
        host.start_dockerd()

    without_docker(
        f"used=$(du --one-file-system --summarize --block-size=1M {data} | cut -f1)",
        f"truncate --size=$((used * 5 / 4 + {SPARE_MEBIBYTES}))M {image}",
        f"mkfs.ext4 -q {image}",
        f"mkdir {side}",
        f"mount -o loop {image} {side}",
        f"cp --archive --one-file-system {data}/. {side}",
        f"umount {side}",
        f"rmdir {side}",
        f"mount -o loop {image} {data}",
    )
    try:
        yield
    finally:
        without_docker(f"umount {data}", f"rm {image}")


@contextmanager
def live_restore(cluster: LabCluster, host: DockerHost) -> Iterator[None]:
    """Let the host's Docker daemon keep its containers while it restarts."""
    settings = host.folder / "etc-docker" / "daemon.json"

    def set_to(wanted: bool) -> None:
        settings.write_text(json.dumps({"live-restore": wanted}))
        assert host.dockerd is not None
        host.dockerd.signal(signal.SIGHUP)
        wait_until(
            lambda: host.docker.info()["LiveRestoreEnabled"] is wanted,
            f"dockerd of {host.name} has read its settings",
        )

    set_to(True)
    try:
        yield
    finally:
        if host.dockerd is None:
            host.start_dockerd()
        set_to(False)

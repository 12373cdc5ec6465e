"""Nodes that are drained and lost: who is healthy all the while, and who never runs twice."""

import json
import signal
import threading

from tests.e2e.cluster import LabCluster
from tests.lab.waiting import wait_until

CHECKED = """
services:
  web:
    image: shoal-test/app:1
    healthcheck: {test: [CMD, /bin/healthy], interval: 1s, retries: 1}
    deploy: {replicas: 2, update_config: {order: start-first}}
"""

EVEN = """
services:
  web:
    image: shoal-test/app:1
    healthcheck: {test: [CMD, /bin/healthy], interval: 1s, retries: 1}
    deploy: {replicas: 6, update_config: {order: start-first}}
"""

FENCED = """
services:
  one:
    image: shoal-test/app:1
    stop_grace_period: 2s
    x-shoal: {lost_node: {policy: fence, after: 10s}}
"""


def test_a_drained_service_never_lacks_a_healthy_replica(cluster: LabCluster) -> None:
    cluster.deploy("drain", CHECKED)
    host = cluster.host_named(cluster.seen("drain_web")[0].host)
    healthy: list[int] = []
    over = threading.Event()

    def watch() -> None:
        while not over.is_set():
            found = [
                row["Status"]
                for each in cluster.docker_hosts
                for row in each.docker.api.containers(
                    filters={"label": "shoal.service.name=drain_web"}
                )
            ]
            healthy.append(sum("(healthy)" in status for status in found))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        cluster.ctl("node", "drain", host.name, "--deadline", "2m")
    finally:
        over.set()
        watcher.join()

    assert min(healthy) >= 1, healthy
    assert not cluster.seen("drain_web", hosts=[host])
    cluster.wait_running("drain_web", 2)


def test_a_fenced_task_on_a_host_that_is_cut_off_ends_there_before_it_runs_elsewhere(
    cluster: LabCluster,
) -> None:
    cluster.deploy("fence", FENCED)
    (lost,) = cluster.seen("fence_one")
    host = cluster.host_named(lost.host)
    host.cut()
    cluster.agents[host.name].signal(signal.SIGSTOP)  # nobody but the guard can act
    most = 0

    def has_moved() -> bool:
        nonlocal most
        running = cluster.seen("fence_one")
        most = max(most, len(running))
        return bool(running) and running[0].host != lost.host

    try:
        wait_until(has_moved, "it runs elsewhere", seconds=60.0)
        assert most == 1
    finally:
        cluster.agents[host.name].signal(signal.SIGCONT)
        host.heal()
    cluster.wait_nodes(ready=3)
    (now,) = cluster.wait_running("fence_one", 1)
    assert now.host != lost.host


def test_tasks_come_back_to_a_host_that_was_drained(cluster: LabCluster) -> None:
    cluster.deploy("even", EVEN)
    cluster.ctl("node", "drain", "h3")
    assert not cluster.seen("even_web", hosts=[cluster.host_named("h3")])
    cluster.ctl("node", "activate", "h3")

    told = cluster.ctl("rebalance", "--plan", "--format", "json", check=False)
    assert told.returncode == 2, told.stderr
    planned = json.loads(told.stdout)["moves"]
    assert [move["to_node"] for move in planned] == ["h3", "h3"]
    before = {each.task for each in cluster.seen("even_web")}
    assert {move["task_id"] for move in planned} <= before

    done = cluster.ctl("rebalance", "--max-moves", "5")
    assert "rebalance: 2/2 moved" in done.stderr
    on = [each.host for each in cluster.wait_running("even_web", 6)]
    assert sorted(on.count(host) for host in ("h1", "h2", "h3")) == [2, 2, 2]
    assert "nothing to move" in cluster.ctl("rebalance", "--plan").stdout
    refused = cluster.ctl("rebalance", "--max-moves", "101", check=False)
    assert refused.returncode == 1
    assert "max_moves must be 1 to 100" in refused.stderr

"""What users do day in, day out: deploy, scale, update, take nodes out, remove."""

from tests.e2e.cluster import LabCluster, Seen
from tests.e2e.history import history
from tests.e2e.stacks import web
from tests.lab.waiting import wait_until

HEALTHY = """
services:
  web:
    image: shoal-test/app:%d
    healthcheck: {test: [CMD, /bin/healthy], interval: 1s}
    deploy:
      replicas: 6
      update_config: {parallelism: 3}
"""


def spread(seen: list[Seen]) -> list[int]:
    """Return how many containers each host has, the fewest first."""
    hosts = [one.host for one in seen]
    return sorted(hosts.count(host) for host in set(hosts))


def test_replicas_are_deployed_over_all_hosts_scaled_and_removed(cluster: LabCluster) -> None:
    done = cluster.deploy("demo", web(12))

    # When the command returns, it is so.
    twelve = cluster.seen("demo_web")
    assert {one.slot for one in twelve} == set(range(1, 13))
    assert spread(twelve) == [4, 4, 4]
    assert "created demo_web" in done.stdout
    told = cluster.ctl_json("service", "ps", "demo_web")
    assert {task["state"] for task in told} == {"running"}
    assert {(task["id"], task["node"]) for task in told} == {(s.task, s.host) for s in twelve}

    cluster.ctl("service", "scale", "demo_web=30")
    thirty = cluster.seen("demo_web")
    assert {one.slot for one in thirty} == set(range(1, 31))
    assert spread(thirty) == [10, 10, 10]
    assert set(twelve) <= set(thirty), "scaling up does not touch what runs"

    cluster.ctl("service", "scale", "demo_web=5")
    five = cluster.seen("demo_web")
    assert len(five) == 5
    assert set(five) <= set(thirty), "scaling down only ends what is too much"
    assert spread(five) == [1, 2, 2]

    cluster.ctl("stack", "rm", "demo")
    assert cluster.seen() == []
    cluster.wait_bare()
    for listing in (["stack", "ls"], ["service", "ls"], ["task", "ls", "--all"]):
        assert cluster.ctl(*listing, "-q").stdout == ""


def test_a_rolling_update_leaves_enough_running_at_any_time(cluster: LabCluster) -> None:
    cluster.deploy("roll", HEALTHY % 1)
    before = cluster.seen("roll_web")

    again = cluster.deploy("roll", HEALTHY % 1)
    assert "unchanged roll_web" in again.stdout
    assert set(cluster.seen("roll_web")) == set(before)

    cluster.deploy("roll", HEALTHY % 2)

    after = cluster.seen("roll_web")
    assert {one.slot for one in after} == {one.slot for one in before}
    assert {cluster.container(one).attrs["Config"]["Image"] for one in after} == {
        "shoal-test/app:2"
    }
    serving = {one.id for one in before}
    running = {one.id for one in before}
    fewest = most = 6
    for event in history(cluster, "roll_web", since=before):
        if event.action == "start":
            running.add(event.container)
        if event.action == "health_status: healthy":
            serving.add(event.container)
        if event.action in ("kill", "die"):
            serving.discard(event.container)
        if event.action == "die":
            running.discard(event.container)
        fewest, most = min(fewest, len(serving)), max(most, len(running))
    assert serving == {one.id for one in after}
    assert fewest == 3, "three at a time, and the next only when these are healthy"
    assert most == 6, "a slot never has two containers"


def test_a_global_service_has_one_task_on_each_active_node(cluster: LabCluster) -> None:
    cluster.deploy("each", "services: {agent: {image: 'shoal-test/app:1', deploy: {mode: global}}}")
    assert sorted(one.host for one in cluster.seen("each_agent")) == ["h1", "h2", "h3"]
    stays = {one for one in cluster.seen("each_agent") if one.host != "h3"}

    cluster.ctl("node", "drain", "h3")
    assert set(cluster.seen("each_agent")) == stays

    cluster.ctl("node", "activate", "h3")
    wait_until(
        lambda: sorted(one.host for one in cluster.seen("each_agent")) == ["h1", "h2", "h3"],
        "h3 has its task again",
    )
    assert stays <= set(cluster.seen("each_agent"))


def test_a_drained_node_is_emptied_and_a_cordoned_one_takes_nothing(cluster: LabCluster) -> None:
    cluster.deploy("move", web(6))
    on_h1 = {one for one in cluster.seen("move_web") if one.host == "h1"}
    assert on_h1

    cluster.ctl("node", "drain", "h2")
    moved = cluster.seen("move_web")
    assert {one.host for one in moved} == {"h1", "h3"}
    assert {one.slot for one in moved} == set(range(1, 7))
    assert on_h1 <= set(moved), "other nodes' tasks stay as they are"

    cluster.ctl("node", "activate", "h2")
    cluster.ctl("node", "cordon", "h1")
    cluster.ctl("service", "scale", "move_web=9")
    grown = set(cluster.seen("move_web"))
    assert set(moved) <= grown, "activating and cordoning move nothing"
    assert "h1" not in {one.host for one in grown - set(moved)}


def test_a_service_that_finds_no_room_waits_and_tells_why(cluster: LabCluster) -> None:
    done = cluster.ctl(
        *("stack", "deploy", "--timeout", "1s", "-c", "-", "big"),
        stdin=(
            "services: {web: {image: 'shoal-test/app:1',"
            " deploy: {resources: {reservations: {memory: 64T}}}}}"
        ),
        check=False,
    )

    assert done.returncode == 1
    assert "3 nodes" in done.stderr
    assert "memory" in done.stderr
    (task,) = cluster.tasks("big_web")
    assert task["state"] == "pending"
    assert "memory" in cluster.ctl("task", "explain", task["id"]).stdout

"""Rollouts on real hosts: a version that cannot run, a port that is in the way, a lost leader."""

from tests.e2e.cluster import LabCluster
from tests.e2e.history import fewest_running
from tests.lab.waiting import wait_until

HEALTHY = """
services:
  web:
    image: {image}
    healthcheck: {{test: [CMD, {check}], interval: 1s, retries: 1}}
    deploy:
      replicas: 4
      update_config: {{parallelism: 2, monitor: 1s, failure_action: rollback}}
"""

ON_A_PORT = """
services:
  web:
    image: shoal-test/app:%d
    ports: [{target: 80, published: 8088, mode: host}]
    deploy:
      replicas: 3
      update_config: {order: start-first, monitor: 1s}
"""

SLOWLY = """
services:
  web:
    image: shoal-test/app:%d
    deploy:
      replicas: 4
      update_config: {delay: 1s, monitor: 1s}
"""


def images(cluster: LabCluster, service: str) -> set[str]:
    return {cluster.container(s).attrs["Config"]["Image"] for s in cluster.seen(service)}


def test_a_bad_version_is_taken_back_and_the_deploy_says_so(cluster: LabCluster) -> None:
    good = HEALTHY.format(image="shoal-test/app:1", check="/bin/healthy")
    cluster.deploy("bad", good)
    wait_until(
        lambda: "ran well" in cluster.ctl_json("service", "history", "bad_web")[0]["status"],
        "the first version has run for the monitor period",
        every_seconds=0.2,
    )
    before = set(cluster.seen("bad_web"))

    # No host has this image: nothing that runs is touched.
    missing = HEALTHY.format(image="shoal-test/none:9", check="/bin/healthy")
    done = cluster.ctl("stack", "deploy", "-c", "-", "bad", stdin=missing, check=False)
    assert done.returncode == 1
    assert "version 2 failed in" in done.stderr
    assert "rolled back to version 1" in done.stderr
    assert set(cluster.seen("bad_web")) == before

    # This one starts, and is never healthy.
    sick = HEALTHY.format(image="shoal-test/app:2", check="/bin/none")
    done = cluster.ctl("stack", "deploy", "-c", "-", "bad", stdin=sick, check=False)
    assert done.returncode == 1
    assert "rolled back to version 1" in done.stderr
    assert images(cluster, "bad_web") == {"shoal-test/app:1"}
    assert len(set(cluster.seen("bad_web")) & before) >= 2, "two at a time, and no more"

    listed = cluster.ctl_json("service", "history", "bad_web")
    assert [(row["version"], row["status"]) for row in listed] == [
        (3, "present, rolled-back"),
        (2, ""),
        (1, "runs instead, ran well"),
    ]
    (changed,) = (
        row
        for row in cluster.ctl_json("service", "diff", "bad_web", "1", "2")
        if row["field"] == "task.container.image"
    )
    assert (changed["old"], changed["new"]) == ("shoal-test/app:1", "shoal-test/none:9")

    # Saying that it should be so ends it; nothing has to be replaced for that.
    cluster.ctl("stack", "rollback", "bad")
    (summary,) = cluster.ctl_json("service", "ls")
    assert (summary["rollout"], summary["spec_version"]) == ("completed", 4)
    never = cluster.ctl("service", "rollback", "--to", "9", "bad_web", check=False)
    assert never.returncode == 1
    assert "version 9 of service 'bad_web' never was" in never.stderr


def test_start_first_on_a_host_port_stops_first_where_it_must(cluster: LabCluster) -> None:
    cluster.deploy("port", ON_A_PORT % 1)
    before = cluster.seen("port_web")

    done = cluster.deploy("port", ON_A_PORT % 2)

    assert "stop-first where the new task does not fit beside the old one" in done.stderr
    assert "8088" in done.stderr
    assert images(cluster, "port_web") == {"shoal-test/app:2"}
    assert fewest_running(cluster, "port_web", since=before) == 2, "one at a time"


def test_a_rollout_goes_on_under_the_next_leader(cluster: LabCluster) -> None:
    cluster.deploy("lead", SLOWLY % 1)
    cluster.deploy("lead", SLOWLY % 2, "--no-wait")
    wait_until(lambda: "shoal-test/app:2" in images(cluster, "lead_web"), "one place is updated")
    leader = cluster.leading_host()
    assert leader is not None

    cluster.managers[leader.name].kill()

    wait_until(
        lambda: (
            len(cluster.seen("lead_web")) == 4
            and images(cluster, "lead_web") == {"shoal-test/app:2"}
        ),
        "all four are updated",
        seconds=60.0,
    )
    wait_until(
        lambda: cluster.ctl_json("service", "ls")[0]["rollout"] == "completed",
        "the rollout is complete",
    )

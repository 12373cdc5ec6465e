"""What goes wrong in the middle of a change, on real hosts: phase by phase, by Docker's own telling."""

from collections.abc import Callable

import pytest

from tests.e2e.cluster import LabCluster
from tests.e2e.history import fewest_running, history
from tests.lab.waiting import wait_until

WEB = """
services:
  web:
    image: shoal-test/{image}
    {more}
    healthcheck: {{test: [CMD, {check}], interval: 1s, retries: 1}}
    deploy:
      replicas: 3
      update_config: {{monitor: 2s, parallelism: {at_a_time}, failure_action: {action}, order: {order}}}
      rollback_config: {{monitor: 1s}}
"""


def web(
    version: int,
    *,
    image: str = "",
    check: str = "/bin/healthy",
    action: str = "rollback",
    order: str = "stop-first",
    at_a_time: int = 1,
    more: str = "",
) -> str:
    image = image or f"app:{version}"
    return WEB.format(
        image=image, check=check, action=action, order=order, at_a_time=at_a_time, more=more
    )


def summary(cluster: LabCluster) -> tuple[str, int]:
    """Return how the rollout stands and of which version; nothing while no manager answers."""
    listed = cluster.ctl("service", "ls", "--format", "{{.Rollout}} {{.SpecVersion}}", check=False)
    state, _, version = listed.stdout.strip().rpartition(" ")
    return state, int(version or 0)


def images(cluster: LabCluster) -> list[str]:
    return sorted(
        row["Image"].rpartition("/")[2]
        for host in cluster.docker_hosts
        if host.is_up
        for row in host.docker.api.containers(filters={"label": "shoal.service.name=life_web"})
    )


def created(cluster: LabCluster, image: str) -> int:
    """Return how many containers of an image there are, whether or not they run."""
    kept = [
        row["Image"].endswith(image)
        for host in cluster.docker_hosts
        for row in host.docker.api.containers(
            all=True, filters={"label": "shoal.service.name=life_web"}
        )
    ]
    return sum(kept)


def deployed_first(cluster: LabCluster, compose: str) -> None:
    """Have a first version run, and known to run well."""
    cluster.deploy("life", compose)
    wait_until(
        lambda: "ran well" in cluster.ctl_json("service", "history", "life_web")[0]["status"],
        "the first version has run for the monitor period",
        every_seconds=0.2,
    )


HEALTHY, SICK = "/bin/healthy", "/bin/none"

# Which health check the new version has, and when the leader dies. That it dies in the delay is told in test_rollouts.
PHASES: dict[str, tuple[str, Callable[[LabCluster], bool]]] = {
    "before the first task": (HEALTHY, lambda _: True),
    "while the first starts": (HEALTHY, lambda cluster: created(cluster, "app:2") > 0),
    "in the monitor period": (HEALTHY, lambda cluster: images(cluster) == ["app:2"] * 3),
    "when it turns back": (SICK, lambda cluster: summary(cluster)[0] == "rolling-back"),
    "when it is complete": (HEALTHY, lambda cluster: summary(cluster) == ("completed", 2)),
}


@pytest.mark.parametrize("phase", PHASES)
def test_a_rollout_ends_as_it_should_though_its_leader_is_killed(
    cluster: LabCluster, phase: str
) -> None:
    check, holds = PHASES[phase]
    deployed_first(cluster, web(1))
    before = cluster.seen("life_web")
    leader = cluster.leading_host()
    assert leader is not None

    cluster.deploy("life", web(2, check=check), "--no-wait")
    wait_until(lambda: holds(cluster), phase, every_seconds=0.02)
    cluster.managers[leader.name].kill()

    ends, image = ("rolled-back", "app:1") if check == SICK else ("completed", "app:2")
    wait_until(
        lambda: summary(cluster) == (ends, 2) and images(cluster) == [image] * 3,
        f"it is {ends}, with three of {image}",
        seconds=60.0,
    )
    assert fewest_running(cluster, "life_web", since=before) >= 2, "one at a time"


def test_an_image_that_cannot_be_had_in_mid_rollout_is_taken_back(cluster: LabCluster) -> None:
    deployed_first(cluster, web(1))
    before = cluster.seen("life_web")
    cluster.deploy("life", web(2), "--no-wait")
    wait_until(lambda: images(cluster).count("app:2") == 1, "one is updated")

    done = cluster.ctl(
        "stack", "deploy", "-c", "-", "life", stdin=web(3, image="none:9"), check=False
    )

    assert done.returncode == 1
    assert "rolled back to version 1" in done.stderr
    assert images(cluster) == ["app:1"] * 3
    assert fewest_running(cluster, "life_web", since=before) >= 2


@pytest.mark.parametrize("order", ["stop-first", "start-first"])
def test_a_version_that_only_crashes_never_takes_the_last_that_runs(
    cluster: LabCluster, order: str
) -> None:
    deployed_first(cluster, web(1, action="continue", order=order))
    # Without a health check it counts as running for the moment that it lasts.
    crashing = web(
        2,
        action="continue",
        order=order,
        at_a_time=2,
        more='environment: {EXIT_AFTER: "0.2", EXIT_CODE: "7"}',
    ).replace("{test: [CMD, /bin/healthy], interval: 1s, retries: 1}", "{disable: true}")
    cluster.deploy("life", crashing, "--no-wait")

    def crashes() -> int:
        return sum(event.action == "die" for event in history(cluster, "life_web"))

    wait_until(lambda: crashes() >= 14, "it has crashed again and again", seconds=60.0)
    assert "app:1" in images(cluster)
    cluster.ctl("service", "rollback", "life_web")
    assert images(cluster) == ["app:1"] * 3


def test_a_host_is_lost_while_it_is_drained(cluster: LabCluster) -> None:
    compose = web(1, order="start-first").replace("replicas: 3", "replicas: 6")
    deployed_first(cluster, compose)
    lost = cluster.host_named(cluster.seen("life_web")[0].host)
    others = [host for host in cluster.docker_hosts if host is not lost]
    cluster.ctl("node", "drain", "--no-wait", lost.name)
    wait_until(lambda: created(cluster, "app:1") > 6, "successors are being made")

    lost.crash()

    cluster.wait_running("life_web", 6, hosts=others, seconds=60.0)
    lost.boot()
    cluster.start_agent(lost)
    cluster.wait_nodes(ready=3)
    wait_until(lambda: not cluster.seen("life_web", hosts=[lost]), "nothing runs on it")
    assert len(cluster.seen("life_web")) == 6

"""Jobs on real hosts: so many completions, services that wait for each other, a schedule by hand."""

from tests.e2e.cluster import LabCluster
from tests.e2e.history import history

CHAIN = """
services:
  web:
    image: shoal-test/app:1
    deploy: {replicas: 2}
    depends_on:
      migrate: {condition: service_completed_successfully}
  migrate:
    image: shoal-test/app:1
    environment: {EXIT_AFTER: 1}
    deploy: {mode: replicated-job, replicas: 4}
    x-shoal: {job: {max_concurrent: 2}}
    depends_on:
      db: {condition: service_healthy}
  db:
    image: shoal-test/app:1
    healthcheck: {test: [CMD, /bin/healthy], interval: 1s}
  nightly:
    image: shoal-test/app:1
    environment: {EXIT_AFTER: 1, EXIT_CODE: "${CODE}"}
    deploy: {mode: replicated-job, restart_policy: {condition: none}}
    x-shoal: {schedule: {cron: "0 0 29 2 *", time_zone: Europe/Vienna}}
"""


def moments(cluster: LabCluster, service: str, action: str) -> list[int]:
    """Return when, in nanoseconds, Docker saw *action* happen to the service's containers, in order."""
    return sorted(event.at_nanos for event in history(cluster, service) if event.action == action)


def test_a_stack_starts_in_order_runs_its_jobs_and_leaves_the_other_way_round(
    cluster: LabCluster,
) -> None:
    done = cluster.deploy("shop", CHAIN.replace("${CODE}", "0"))

    assert "shop_migrate: 4/4 done" in done.stderr
    tasks = cluster.ctl_json("job", "ps", "shop_migrate")
    assert [(task["slot"], task["state"]) for task in tasks] == [
        (slot, "complete") for slot in (1, 2, 3, 4)
    ]
    healthy = moments(cluster, "shop_db", "health_status: healthy")
    began, ended = (
        moments(cluster, "shop_migrate", "start"),
        moments(cluster, "shop_migrate", "die"),
    )
    assert len(began) == len(ended) == 4
    assert healthy[0] < began[0]
    assert ended[-1] < moments(cluster, "shop_web", "start")[0]
    assert began[2] > ended[0], "two at a time"

    (job,) = [each for each in cluster.ctl_json("job", "ls") if each["name"] == "shop_nightly"]
    assert job["next_due_at"]
    assert job["last_run"] is None
    by_hand = cluster.ctl("job", "run", "shop_nightly")
    assert "1/1 done" in by_hand.stderr
    cluster.deploy("shop", CHAIN.replace("${CODE}", "3"))
    failing = cluster.ctl("job", "run", "shop_nightly", check=False)
    assert failing.returncode == 1
    assert "exited with code 3" in failing.stderr
    runs = cluster.ctl_json("job", "history", "shop_nightly")
    assert [(run["number"], run["cause"], run["state"]) for run in runs] == [
        (2, "by-hand", "failed"),
        (1, "by-hand", "complete"),
    ]

    cluster.ctl("stack", "rm", "shop")
    assert moments(cluster, "shop_web", "die")[-1] < moments(cluster, "shop_db", "die")[-1]

"""Where tasks run when services, nodes and their owners have a say in it."""

from tests.e2e.cluster import LabCluster, Seen
from tests.e2e.stacks import web
from tests.lab.waiting import wait_until

PARTICULAR = """
services:
  web:
    image: shoal-test/app:1
    deploy:
      replicas: 4
      placement: {preferences: [{spread: node.labels.zone}]}
  near:
    image: shoal-test/app:1
    x-shoal: {affinity: {service: db, topology: node.labels.zone}}
  db:
    image: shoal-test/app:1
    volumes: ["data:/data"]
  train:
    image: shoal-test/app:1
    deploy:
      replicas: 2
      placement: {constraints: ["node.labels.zone not exists", "node.hostname =~ h[0-9]"]}
      resources:
        reservations: {generic_resources: [discrete_resource_spec: {kind: gpu, value: 1}]}
    x-shoal: {tolerates: gpu}
volumes:
  data: {x-shoal: {bound: true}}
"""


def hosts(seen: list[Seen]) -> list[str]:
    return sorted(one.host for one in seen)


def test_services_run_where_they_should_and_know_what_is_their_own(cluster: LabCluster) -> None:
    cluster.ctl("node", "update", "h1", "--label-add", "zone=a")
    cluster.ctl("node", "update", "h2", "--label-add", "zone=b", "--volume-add", "lab_data")
    cluster.ctl("node", "update", "h3", "--reserve-for", "gpu")

    cluster.deploy("lab", PARTICULAR)

    assert hosts(cluster.seen("lab_web")) == ["h1", "h1", "h2", "h2"]
    assert hosts(cluster.seen("lab_db")) == ["h2"], "its data is there"
    assert hosts(cluster.seen("lab_near")) == ["h2"]
    train = cluster.seen("lab_train")
    assert hosts(train) == ["h3", "h3"]
    environments = [cluster.container(one).attrs["Config"]["Env"] for one in train]
    own = sorted(line for lines in environments for line in lines if "RESOURCE" in line)
    assert own == [
        *("DOCKER_RESOURCE_GPU=h3-a", "DOCKER_RESOURCE_GPU=h3-b"),
        *("SHOAL_RESOURCE_GPU=h3-a", "SHOAL_RESOURCE_GPU=h3-b"),
    ]

    explained = cluster.ctl("task", "explain", cluster.tasks("lab_train")[0]["id"]).stdout
    assert "Why this node:" in explained
    cluster.ctl("service", "scale", "--no-wait", "lab_train=3")
    waits = wait_until(
        lambda: [task for task in cluster.tasks("lab_train") if task["error"]],
        "the third one waits and says why",
    )
    explained = cluster.ctl("task", "explain", waits[0]["id"]).stdout
    assert "h3: short of 1 gpu" in explained
    assert "free 1 gpu on h3" in explained


def test_what_is_more_important_takes_the_place_of_what_is_less(cluster: LabCluster) -> None:
    stack = """
services:
  {name}:
    image: shoal-test/app:1
    deploy:
      replicas: {replicas}
      resources:
        reservations: {{generic_resources: [discrete_resource_spec: {{kind: gpu, value: 1}}]}}
    x-shoal: {{{more}}}
"""
    cluster.deploy(
        "low", stack.format(name="batch", replicas=6, more="budget: {max_unavailable: 2}")
    )
    cluster.deploy("high", stack.format(name="web", replicas=2, more="priority: 9, preempts: true"))

    assert len(cluster.seen("high_web")) == 2
    cluster.wait_running("low_batch", 4)
    waiting = [task for task in cluster.tasks("low_batch") if task["state"] == "pending"]
    assert len(waiting) == 2
    cluster.ctl("stack", "rm", "high")
    cluster.wait_running("low_batch", 6)


def test_what_is_foreseen_is_what_happens(cluster: LabCluster) -> None:
    cluster.deploy("lab", web(5))
    before = {one.slot: one.host for one in cluster.seen("lab_web")}

    foreseen = cluster.ctl_json("whatif", "--drain", "h2", "--spare")
    assert {one.slot: one.host for one in cluster.seen("lab_web")} == before, "nothing has moved"
    assert not foreseen["indispensable"]
    moves = {task["name"]: task["to_node"] for task in foreseen["tasks"]}
    assert moves.keys() == {f"lab_web.{slot}" for slot, host in before.items() if host == "h2"}

    cluster.ctl("node", "drain", "h2")
    after = {one.slot: one.host for one in cluster.seen("lab_web")}
    moved = [host for slot, host in after.items() if before[slot] == "h2"]
    assert sorted(moved) == sorted(moves.values()), "equal tasks may have changed places"
    assert "nothing to imagine" in cluster.ctl("whatif", check=False).stderr

"""What cannot be is refused in a line or two, with what to do; and nothing of it is applied."""

import sys

from scripts.lib.steps import TREE
from tests.e2e.cluster import LabCluster

GOOD = """
services:
  web:
    image: shoal-test/app:1
    deploy: {replicas: 2}
"""

WEB = "services:\n  web:\n    image: shoal-test/app:1\n"

SAME_PORT = """\
    ports:
      - {target: 80, published: 8080, mode: host}
      - {target: 81, published: 8080, mode: host}
"""

BAD = {
    "unknown key": (f"{WEB}    comand: [sleep]\n", ["stdin:4", "comand", "'command'"]),
    "no image": ("services:\n  web:\n    environment: {A: b}\n", ["stdin:", "image"]),
    "no yaml": ("services:\n  web: [\n", ["stdin:"]),
    "unknown constraint operator": (
        f"{WEB}    deploy: {{placement: {{constraints: ['node.hostname ~= h1']}}}}\n",
        ["stdin:4", "node.hostname ~= h1", "=="],
    ),
    "duplicate host port": (WEB + SAME_PORT, ["stdin:6", "8080"]),
    "memory that does not parse": (
        f"{WEB}    deploy: {{resources: {{limits: {{memory: 64 megs}}}}}}\n",
        ["stdin:4", "64 megs", "memory"],
    ),
    "negative replicas": (f"{WEB}    deploy: {{replicas: -1}}\n", ["stdin:4", "replicas", "-1"]),
}


def said(cluster: LabCluster, code: int, *argv: str, stdin: str = "", endpoints: str = "") -> str:
    """Run what fails with *code*; return the line or two that tell why."""
    done = cluster.ctl(*argv, stdin=stdin, check=False, endpoints=endpoints)
    assert done.returncode == code, done
    before, mark, told = done.stderr.rpartition("error: ")
    assert mark, done.stderr
    assert 1 <= len(told.splitlines()) <= 2, done.stderr
    assert "error: " not in before, "only how far it was comes before"
    assert "Traceback" not in done.stderr
    return told


def test_a_bad_compose_file_is_refused_with_its_place(cluster: LabCluster) -> None:
    unsaid = []
    for what, (text, words) in BAD.items():
        # A service beside it that would be fine: all or nothing.
        good = "" if what == "no yaml" else "  fine:\n    image: shoal-test/app:1\n"
        told = said(cluster, 1, "stack", "deploy", "-c", "-", "bad", stdin=text + good)
        unsaid += [f"{what}: {word!r} is not in {told!r}" for word in words if word not in told]

    assert unsaid == []
    assert cluster.ctl("stack", "ls", "-q").stdout == ""
    assert cluster.ctl("service", "ls", "-q").stdout == ""


def test_a_bad_change_changes_nothing(cluster: LabCluster) -> None:
    cluster.deploy("good", GOOD)
    before = cluster.starts("good_web")
    (service,) = cluster.ctl_json("service", "inspect", "good_web")

    def refused(*argv: str, code: int = 1) -> str:
        return said(cluster, code, *argv)

    assert "-1" in refused("service", "scale", "good_web=-1", code=2)
    assert "-1" in refused("service", "update", "--replicas", "-1", "good_web", code=2)
    assert "64 megs" in refused(
        "service", "update", "--limit-memory", "64 megs", "good_web", code=2
    )
    assert "~=" in refused("service", "update", "--constraint-add", "node.id ~= x", "good_web")
    assert "'good_web'" in refused("service", "scale", "good_wbe=3", "good_web=3")
    assert "'h1'" in refused("node", "drain", "hh1")
    assert "'update'" in refused("service", "updaet", "good_web", code=2)

    assert cluster.ctl_json("service", "inspect", "good_web")[0]["service"] == service["service"]
    assert cluster.starts("good_web") == before
    cluster.ctl("service", "ps", "good_web")


def test_a_name_in_use_is_refused_whole(cluster: LabCluster) -> None:
    cluster.deploy("a_b", "services: {web: {image: 'shoal-test/app:1'}}")

    told = said(
        cluster,
        1,
        *("stack", "deploy", "-c", "-", "a"),
        stdin="services: {fine: {image: 'shoal-test/app:1'}, b_web: {image: 'shoal-test/app:1'}}",
    )

    assert "a_b_web" in told
    assert cluster.ctl("stack", "ls", "-q").stdout.split() == ["a_b"]
    assert cluster.ctl("service", "ls", "--format", "{{.Name}}").stdout.split() == ["a_b_web"]


def test_an_image_that_cannot_be_found_is_told_with_its_name(cluster: LabCluster) -> None:
    told = said(
        cluster,
        1,
        *("stack", "deploy", "-c", "-", "lost"),
        stdin="services: {web: {image: 'shoal-test/none:9'}}",
    )

    assert "shoal-test/none:9" in told
    assert cluster.seen("lost_web", everything=True) == []


def test_a_manager_that_cannot_be_reached_is_named(cluster: LabCluster) -> None:
    told = said(cluster, 1, "stack", "ls", endpoints="198.18.0.9:7420,127.0.0.1:1")

    assert "198.18.0.9:7420" in told
    assert "127.0.0.1:1" in told


# What `clusterctl service update` does, with somebody else's update between its two halves.
STALE = """
import msgspec
from cluster.errors import ConflictError
from clusterctl.app import App

client = App().client
seen = client.service("moved_web").service
client.update_service(seen.id, seen.version, msgspec.structs.replace(seen.spec, replicas=3))
try:
    client.update_service(seen.id, seen.version, msgspec.structs.replace(seen.spec, replicas=1))
except ConflictError as error:
    print(error)
"""


def test_an_update_of_a_version_that_has_moved_on_is_refused(cluster: LabCluster) -> None:
    cluster.deploy("moved", GOOD)

    told = cluster.operator.run(
        [sys.executable, "-c", STALE], environment={"SHOAL_ENDPOINT": cluster.endpoints}, cwd=TREE
    ).stdout

    assert "service 'moved_web' has changed" in told
    assert "replicas" in told, "it shows how"
    cluster.wait_running("moved_web", 3)

"""Several files: what the later ones change."""

from typing import Any

import pytest

from cluster.compose import ComposeError, Project, Source, load


def no_file(path: str) -> str:
    raise FileNotFoundError(path)


def merged(*texts: str) -> Project:
    sources = [Source(f"{name}.yaml", text) for name, text in zip("abcd", texts, strict=False)]
    return load(sources, environment={"E": "env"}, directory="/app", read=no_file, project="demo")


def web(*keys: str) -> dict[str, Any]:
    """Return the merged service, where each file has these *keys* of it."""
    texts = [f"services: {{web: {{{part}}}}}" for part in (f"image: web, {keys[0]}", *keys[1:])]
    services: Any = merged(*texts).document()["services"]
    service: dict[str, Any] = services["web"]
    return service


@pytest.mark.parametrize(
    ("files", "key", "expected"),
    [
        (["user: a", "user: b"], "user", "b"),
        (["user: a", "hostname: b"], "user", "a"),
        (["user: a", "user: "], "user", "a"),
        (["user: ", "user: b"], "user", "b"),
        (["command: [a, b]", "command: [c]"], "command", ["c"]),
        (["command: a b", "command: [c]"], "command", ["c"]),
        (["entrypoint: [a]", "entrypoint: b c"], "entrypoint", ["b", "c"]),
        (["healthcheck: {test: [CMD, a], retries: 3}", "healthcheck: {test: b}"], "healthcheck",
         {"test": ["CMD-SHELL", "b"], "retries": 3}),
        (["environment: [A=1, B=2]", "environment: {B: 3, C: 4}"], "environment",
         {"A": "1", "B": "3", "C": "4"}),
        (["environment: {E: 1}", "environment: [E]"], "environment", {"E": "env"}),
        (["labels: {a: 1}", "labels: [a=2, b]"], "labels", {"a": "2", "b": ""}),
        (["labels: {a: 1}", "labels: {a: }"], "labels", {"a": ""}),
        (["cap_add: [NET_RAW]", "cap_add: [NET_ADMIN, NET_RAW]"], "cap_add",
         ["NET_RAW", "NET_ADMIN"]),
        (["dns: 192.0.2.1", "dns: [192.0.2.2]"], "dns", ["192.0.2.1", "192.0.2.2"]),
        (["extra_hosts: ['a:192.0.2.1']", "extra_hosts: {a: 192.0.2.2, b: 192.0.2.3}"],
         "extra_hosts", ["a:192.0.2.1", "a:192.0.2.2", "b:192.0.2.3"]),
        (["ulimits: {core: 1, cpu: 1}", "ulimits: {core: {soft: 2, hard: 3}}"], "ulimits",
         {"core": {"soft": 2, "hard": 3}, "cpu": {"soft": 1, "hard": 1}}),
        (["logging: {driver: a, options: {x: 1}}", "logging: {driver: a, options: {y: 2}}"],
         "logging", {"driver": "a", "options": {"x": "1", "y": "2"}}),
        (["logging: {driver: a, options: {x: 1}}", "logging: {options: {x: 2}}"],
         "logging", {"driver": "a", "options": {"x": "2"}}),
        (["logging: {driver: a, options: {x: 1}}", "logging: {driver: b, options: {y: 2}}"],
         "logging", {"driver": "b", "options": {"y": "2"}}),
        (["networks: [default]", "networks: {default: {aliases: [a]}}"], "networks",
         {"default": {"aliases": ["a"]}}),
        (["networks: {default: {aliases: [a]}}", "networks: {default: {aliases: [b]}}"],
         "networks", {"default": {"aliases": ["a", "b"]}}),
        (["networks: {default: {aliases: [a]}}", "networks: [default]"], "networks",
         {"default": {"aliases": ["a"]}}),
        (["deploy: {replicas: 2, labels: {a: 1}}", "deploy: {labels: [b=2]}"], "deploy",
         {"mode": "replicated", "replicas": 2, "labels": {"a": "1", "b": "2"}}),
        (["x-shoal: {priority: 1, tolerates: a}", "x-shoal: {priority: 2, tolerates: [b, a]}"],
         "x-shoal", {"priority": 2, "tolerates": ["a", "b"]}),
        (["x-shoal: {affinity: [web, {service: x, external: true}]}",
          "x-shoal: {affinity: [{service: web, weight: 3}]}"], "x-shoal",
         {"affinity": [{"service": "web", "topology": "node.id", "weight": 3},
                       {"service": "x", "topology": "node.id", "external": True}]}),
        (["x-shoal: {prefer: [node.id == a, node.id == b]}",
          "x-shoal: {prefer: {constraint: node.id == a, weight: 1}}"], "x-shoal",
         {"prefer": [{"constraint": "node.id == a", "weight": 1},
                     {"constraint": "node.id == b", "weight": 50}]}),
        (["user: a", "user: !reset null"], "user", None),
        (["user: a", "user: !reset null", "user: c"], "user", "c"),
        (["environment: {A: 1, B: 2}", "environment: {A: !reset null}"], "environment",
         {"B": "2"}),
        (["environment: {A: 1, B: 2}", "environment: !reset {}"], "environment", None),
        (["environment: {A: 1, B: 2}", "environment: !override {C: 3}"], "environment",
         {"C": "3"}),
        (["dns: [192.0.2.1]", "dns: !override [192.0.2.2]"], "dns", ["192.0.2.2"]),
        (["dns: [192.0.2.1]", "dns: !override [192.0.2.2]", "dns: [192.0.2.3]"], "dns",
         ["192.0.2.2", "192.0.2.3"]),
        (["user: !override a"], "user", "a"),
        (["user: !reset a"], "user", None),
    ],
)  # fmt: skip
def test_a_key_is_merged_by_its_meaning(files: list[str], key: str, expected: object) -> None:
    assert web(*files).get(key) == expected


def test_ports_are_one_by_address_port_and_protocol() -> None:
    service = web(
        "ports: ['80:80', {target: 53, published: 53, protocol: udp}]",
        "ports: [{target: 80, published: 80, mode: host}, '81:80', '53:53/tcp']",
    )
    assert [(p["published"], p["target"], p["protocol"]) for p in service["ports"]] == [
        ("80", 80, "tcp"),
        ("53", 53, "udp"),
        ("81", 80, "tcp"),
        ("53", 53, "tcp"),
    ]


def test_volumes_are_one_by_target() -> None:
    service = web("volumes: ['/a:/x', '/b:/y']", "volumes: ['/c:/x/:ro', '/d:/z']")
    assert [(v["source"], v["target"], v.get("read_only")) for v in service["volumes"]] == [
        ("/c", "/x/", True),
        ("/b", "/y", None),
        ("/d", "/z", None),
    ]


def test_generic_resources_are_one_by_kind_and_preferences_by_key() -> None:
    def deploy(kind: str, value: int, key: str) -> str:
        spec = f"{{discrete_resource_spec: {{kind: {kind}, value: {value}}}}}"
        reserved = f"resources: {{reservations: {{generic_resources: [{spec}]}}}}"
        return f"deploy: {{{reserved}, placement: {{preferences: [{{spread: {key}}}]}}}}"

    service = web(
        deploy("gpu", 1, "node.labels.a"),
        deploy("gpu", 3, "node.labels.a"),
        deploy("fpga", 2, "node.labels.b"),
    )
    specs = service["deploy"]["resources"]["reservations"]["generic_resources"]
    assert [tuple(spec["discrete_resource_spec"].values()) for spec in specs] == [
        ("gpu", 3),
        ("fpga", 2),
    ]
    assert service["deploy"]["placement"]["preferences"] == [
        {"spread": "node.labels.a"},
        {"spread": "node.labels.b"},
    ]


def test_a_target_that_is_mounted_twice_in_one_file_is_no_matter_of_merging() -> None:
    with pytest.raises(ComposeError, match=r"b\.yaml:1:37: .*\[1\].target: '/x' is mounted twice"):
        web("volumes: ['/a:/x']", "volumes: ['/b:/x', '/c:/x']")


def test_services_networks_and_volumes_are_added() -> None:
    project = merged(
        "services: {a: {image: a}}\nnetworks: {n: {name: x}}",
        "services: {b: {image: b}}\nnetworks: {n: {driver: bridge}}\nvolumes: {v: }",
        "services: {a: !reset null, c: {image: c}}",
    )
    assert [spec.name for spec in project.services] == ["demo_b", "demo_c"]
    assert project.networks["n"].name == "x"
    assert project.volumes["v"].name == "demo_v"


def test_documents_of_one_file_are_merged_like_files() -> None:
    project = merged("services: {a: {image: a, user: x}}\n---\nservices: {a: {user: y}}\n---\n")
    assert project.services[0].task.container.user == "y"


def test_a_file_of_only_documents_to_merge_keeps_its_tags() -> None:
    project = merged(
        "services: {a: {image: a, environment: {A: 1}}}",
        "---\nservices: {a: {environment: !override {B: 2}}}\n---\nservices: {a: {user: x}}",
    )
    assert project.services[0].task.container.environment == {"B": "2"}


def test_shapes_that_do_not_go_together_are_told_of_with_both_places() -> None:
    with pytest.raises(ComposeError) as caught:
        web("healthcheck: {retries: 3}", "healthcheck: [a]", "healthcheck: {retries: 4}")
    assert [str(problem) for problem in caught.value.problems] == [
        "b.yaml:1:31: services.web.healthcheck: cannot merge a list with a map of a.yaml:1:43"
    ]


def test_a_value_that_could_not_be_completed_is_told_of_once() -> None:
    with pytest.raises(ComposeError) as caught:
        web("environment: {A: 1}", "environment: '${X?no}'", "environment: {B: 2}")
    assert [str(problem) for problem in caught.value.problems] == [
        "b.yaml:1:31: services.web.environment: variable X is not set: no"
    ]

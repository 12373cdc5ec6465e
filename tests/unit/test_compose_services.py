"""What a file's keys become in a ``ServiceSpec``."""

import math
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.compose import Project, Source, as_yaml, load
from cluster.compose.catalogue import EXTENDS, INCLUDE, SECTIONS, SERVICE, TOP, Support
from cluster.compose.fields import Fields
from cluster.model import (
    Affinity,
    Autoscale,
    Concurrency,
    ContainerSpec,
    Dependency,
    DependencyCondition,
    DisruptionBudget,
    FailureAction,
    Healthcheck,
    JobSpec,
    LogOptions,
    LostNode,
    LostNodePolicy,
    Mount,
    MountKind,
    NetworkAttachment,
    NetworkMode,
    Placement,
    Platform,
    Preferred,
    PublishedPort,
    PullPolicy,
    RestartCondition,
    RestartPolicy,
    Schedule,
    ServiceMode,
    ServiceSpec,
    SpreadPreference,
    Strategy,
    TaskSpec,
    Ulimit,
    UpdateConfig,
    UpdateOrder,
)
from cluster.resources import Resources

FULL = Path(__file__).parent / "data" / "compose" / "full.yaml"
MIB = 1024**2

ENV_FILES = {
    "/app/common.env": 'COLOUR=red\nGREETING="hello $NAME"\nINHERITED\n',
    "/app/raw.env": "RAW='$NAME'\n",
}


def read(path: str) -> str:
    try:
        return ENV_FILES[path]
    except KeyError:
        raise FileNotFoundError(path) from None


def loaded(text: str, **environment: str) -> Project:
    return load(
        [Source("compose.yaml", text)],
        environment=environment,
        directory="/app",
        read=read,
        project="demo",
    )


def service(**keys: Any) -> ServiceSpec:
    """Return the spec of a service with these keys and an image."""
    text = yaml.safe_dump({"services": {"web": {"image": "web", **keys}}})
    (spec,) = loaded(text).services
    return spec


WEB = ServiceSpec(
    name="demo_web",
    stack="demo",
    labels={"team": "a"},
    mode=ServiceMode.REPLICATED,
    replicas=3,
    update=UpdateConfig(
        parallelism=2,
        delay_seconds=10.0,
        monitor_seconds=20.0,
        failure_action=FailureAction.ROLLBACK,
        max_failure_ratio=0.25,
        order=UpdateOrder.START_FIRST,
        progress_deadline_seconds=120.0,
        canary=1,
        promote_after_seconds=1800.0,
    ),
    rollback=UpdateConfig(
        parallelism=0,
        delay_seconds=1.0,
        monitor_seconds=2.0,
        failure_action=FailureAction.CONTINUE,
        max_failure_ratio=1.0,
        order=UpdateOrder.START_FIRST,
        progress_deadline_seconds=0.0,
    ),
    task=TaskSpec(
        container=ContainerSpec(
            image="registry.example/team/web:1.2",
            pull_policy=PullPolicy.ALWAYS,
            command=("run", "--port", "80"),
            entrypoint=("/bin/tool", "two words"),
            environment={
                "COLOUR": "blue",
                "GREETING": "hello world",
                "INHERITED": "from the client",
                "RAW": "'$NAME'",
                "RATIO": "1.10",
                "DEBUG": "true",
                "PASSED_ON": "too",
            },
            user="1000:1000",
            working_dir="/srv",
            hostname="web.example",
            labels={"com.example.tier": "front"},
            mounts=(
                Mount(
                    kind=MountKind.VOLUME,
                    target="/data",
                    source="the-data",
                    read_only=True,
                    no_copy=True,
                    driver="local",
                    driver_options={"type": "none", "device": "/srv/data"},
                    bound=True,
                    labels={"kept": "yes"},
                ),
                Mount(
                    kind=MountKind.BIND,
                    target="/logs",
                    source="/var/log",
                    create_host_path=True,
                    propagation="rslave",
                ),
                Mount(
                    kind=MountKind.BIND,
                    target="/config",
                    source="/config",
                    read_only=True,
                    propagation="shared",
                ),
                Mount(
                    kind=MountKind.VOLUME,
                    target="/more",
                    source="the-data",
                    no_copy=True,
                    driver="local",
                    driver_options={"type": "none", "device": "/srv/data"},
                    bound=True,
                    labels={"kept": "yes", "extra": "1"},
                ),
                Mount(
                    kind=MountKind.TMPFS,
                    target="/fast",
                    tmpfs_size_bytes=64 * MIB,
                    tmpfs_mode=0o1777,
                ),
                Mount(kind=MountKind.VOLUME, target="/anonymous"),
                Mount(kind=MountKind.TMPFS, target="/run", tmpfs_size_bytes=MIB, tmpfs_mode=0o755),
            ),
            healthcheck=Healthcheck(
                test=("CMD", "true"),
                interval_seconds=5.0,
                timeout_seconds=0.5,
                start_period_seconds=60.0,
                retries=7,
            ),
            ulimits=(
                Ulimit(name="nproc", soft=65535, hard=65535),
                Ulimit(name="nofile", soft=20000, hard=40000),
            ),
            sysctls={"net.core.somaxconn": "1024"},
            cap_add=("NET_ADMIN", "SYS_TIME"),
            cap_drop=("ALL",),
            group_add=("audio", "44"),
            init=True,
            read_only=True,
            tty=True,
            stdin_open=True,
            stop_signal="SIGINT",
            stop_grace_seconds=90.0,
            pids_limit=100,
            shm_size_bytes=128 * MIB,
            oom_score_adj=-500,
            extra_hosts=("db:192.0.2.7", "db:192.0.2.8", "six:2001:db8::1"),
            dns=("192.0.2.53",),
            dns_search=("example", "test"),
            dns_options=("ndots:1",),
            log=LogOptions(driver="json-file", options={"max-size": "10m", "max-file": "3"}),
        ),
        limits=Resources(cpu_nanos=1_500_000_000, memory_bytes=256 * MIB),
        reservations=Resources(
            cpu_nanos=250_000_000, memory_bytes=64 * MIB, generic={"gpu": 2, "licence": 1}
        ),
        networks=(
            NetworkAttachment(network="demo_front"),
            NetworkAttachment(network="shared", aliases=("www", "web")),
        ),
        ports=(
            PublishedPort(target=80, published=8080),
            PublishedPort(target=53, published=5353, protocol="udp", host_ip="192.0.2.1"),
        ),
        restart=RestartPolicy(
            condition=RestartCondition.ON_FAILURE,
            delay_seconds=2.0,
            max_attempts=4,
            window_seconds=120.0,
        ),
        lost_node=LostNode(policy=LostNodePolicy.WAIT, seconds=300.0),
        placement=Placement(
            constraints=("node.labels.zone == a", "node.role != manager"),
            platforms=(Platform(os="linux", architecture="arm64"),),
            max_replicas_per_node=2,
            preferences=(SpreadPreference(key="node.labels.zone"), SpreadPreference(key="node.id")),
            affinities=(
                Affinity(service="demo_older-keys"),
                Affinity(service="other_cache", topology="node.labels.zone", weight=70),
                Affinity(service="demo_web", anti=True),
            ),
            prefer=(
                Preferred(constraint="node.labels.disk == ssd", weight=50),
                Preferred(constraint="node.labels.gb > 16", weight=10),
            ),
            strategy=Strategy.SPREAD,
            tolerates=("front",),
            stays=True,
        ),
    ),
    priority=100,
    preempts=True,
    budget=DisruptionBudget(max_unavailable=0),
    autoscale=Autoscale(
        min_replicas=2,
        max_replicas=9,
        cpu_percent=60,
        memory_percent=80,
        tolerance_percent=5,
        up_window_seconds=60.0,
        down_window_seconds=600.0,
    ),
    gang="demo_all",
)
EVERY_NODE = ServiceSpec(
    name="demo_every-node",
    stack="demo",
    mode=ServiceMode.GLOBAL,
    task=TaskSpec(
        container=ContainerSpec(image="agent"),
        network_mode=NetworkMode.HOST,
        restart=RestartPolicy(condition=RestartCondition.NONE),
    ),
)
OLDER_KEYS = ServiceSpec(
    name="demo_older-keys",
    stack="demo",
    replicas=2,
    task=TaskSpec(
        container=ContainerSpec(
            image="old", pids_limit=50, healthcheck=Healthcheck(test=("NONE",))
        ),
        limits=Resources(cpu_nanos=500_000_000, memory_bytes=1024 * MIB),
        reservations=Resources(memory_bytes=512 * MIB),
        restart=RestartPolicy(condition=RestartCondition.ON_FAILURE, max_attempts=3),
        networks=(NetworkAttachment(network="demo_default"),),
    ),
)


NIGHTLY = ServiceSpec(
    name="demo_nightly",
    stack="demo",
    mode=ServiceMode.REPLICATED_JOB,
    task=TaskSpec(
        container=ContainerSpec(image="report"),
        network_mode=NetworkMode.HOST,
        restart=RestartPolicy(condition=RestartCondition.ON_FAILURE, delay_seconds=1.0),
    ),
    job=JobSpec(
        completions=10,
        max_concurrent=3,
        retries=5,
        time_limit_seconds=3600.0,
        history=4,
        schedule=Schedule(
            cron="30 2 * * *",
            time_zone="Europe/Vienna",
            concurrency=Concurrency.REPLACE,
            late_seconds_max=600.0,
            suspended=True,
        ),
    ),
    depends_on=(
        Dependency(
            service="demo_older-keys",
            condition=DependencyCondition.HEALTHY,
            required=False,
            restart=True,
        ),
        Dependency(service="demo_web"),
    ),
)


@pytest.fixture(scope="module")
def full() -> Project:
    return loaded(FULL.read_text(), INHERITED="from the client", NAME="world", PASSED_ON="too")


def test_every_honoured_key_reaches_the_spec(full: Project) -> None:
    assert full.services[0] == WEB
    assert full.services[1] == EVERY_NODE
    assert full.services[2] == OLDER_KEYS
    assert full.services[3] == NIGHTLY


def test_a_file_warns_of_all_that_works_otherwise_than_written(full: Project) -> None:
    expected = FULL.with_suffix(".warnings").read_text().splitlines()
    assert [str(warning) for warning in full.warnings] == expected


def test_every_honoured_key_is_in_the_full_example(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a key cannot be called honoured and then not be read."""
    asked: set[tuple[str, str]] = set()
    get, at = Fields.get, Fields.at

    def spying_get(self: Fields, name: str, reader: Any, default: Any) -> Any:
        if name in self:
            asked.add((self._section.title, name))
        return get(self, name, reader, default)

    def spying_at(self: Fields, name: str) -> Any:
        asked.add((self._section.title, name))
        return at(self, name)

    monkeypatch.setattr(Fields, "get", spying_get)
    monkeypatch.setattr(Fields, "at", spying_at)
    text = FULL.read_text()
    loaded(text, INHERITED="x")
    load([Source("f", text)], environment={}, directory="/app", read=read)  # takes its name
    honoured = {
        (section.title, name)
        for section in SECTIONS
        for name, key in section.keys.items()
        if key.support is Support.HONOURED
    }
    elsewhere = {  # see test_compose_imports, test_compose_profiles
        (TOP.title, "include"),
        (SERVICE.title, "extends"),
        (SERVICE.title, "profiles"),
        *((section.title, name) for section in (EXTENDS, INCLUDE) for name in section.keys),
    }

    assert asked - elsewhere == honoured - elsewhere


def test_a_bound_volume_lives_where_it_is_said_to_and_is_not_made_elsewhere() -> None:
    text = """
        services: {web: {image: web, volumes: ["data:/data", "loose:/loose", "/nameless"]}}
        volumes: {data: {external: true, x-shoal: {bound: true}}, loose: {}}
    """
    project = loaded(text)
    assert project.warnings == ()
    mounts = project.services[0].task.container.mounts
    assert [(mount.source, mount.bound) for mount in mounts] == [
        ("data", True),
        ("demo_loose", False),
        ("", False),
    ]


def test_the_document_means_the_same_as_the_file(full: Project) -> None:
    text = as_yaml(full.document())

    again = load([Source("again", text)], environment={}, directory="/", read=read)

    assert again.services == full.services
    assert again.networks == full.networks
    assert again.volumes == full.volumes
    assert as_yaml(again.document()) == text


def test_the_document_has_long_forms_and_no_variables() -> None:
    project = loaded("services: {web: {image: $IMAGE, command: echo $$HOME}}", IMAGE="web")

    assert project.document() == {
        "name": "demo",
        "services": {
            "web": {
                "image": "web",
                "command": ["echo", "$$HOME"],
                "networks": {"default": {}},
                "deploy": {"mode": "replicated", "replicas": 1},
            }
        },
        "networks": {"default": {"name": "demo_default"}},
    }


@pytest.mark.parametrize(
    ("keys", "field", "value"),
    [
        ({"command": "sh -c 'a b' c\\ d"}, "command", ("sh", "-c", "a b", "c d")),
        ({"command": ""}, "command", ()),
        ({"command": []}, "command", ()),
        ({"command": None}, "command", None),
        ({"entrypoint": ""}, "entrypoint", ()),
        ({"init": False}, "init", False),
        ({"environment": ["A=b=c", "D="]}, "environment", {"A": "b=c", "D": ""}),
        ({"environment": {"N": 12, "B": False}}, "environment", {"N": "12", "B": "false"}),
        ({"labels": {"a": None, "b": 1}}, "labels", {"a": "", "b": "1"}),
        ({"labels": ["a", "b=1"]}, "labels", {"a": "", "b": "1"}),
        ({"user": 1000}, "user", "1000"),
        ({"healthcheck": {"test": "a | b"}}, "healthcheck", Healthcheck(test=("CMD-SHELL", "a | b"))),
        ({"healthcheck": {"test": ["NONE"]}}, "healthcheck", Healthcheck(test=("NONE",))),
        ({"healthcheck": {}}, "healthcheck", Healthcheck()),
        ({"healthcheck": {"disable": False}}, "healthcheck", Healthcheck()),
        ({"pull_policy": "if_not_present"}, "pull_policy", PullPolicy.MISSING),
        ({"pids_limit": -1}, "pids_limit", 0),
        ({"extra_hosts": {"a": "192.0.2.1", "b": ["192.0.2.2", "::1"]}}, "extra_hosts",
         ("a:192.0.2.1", "b:192.0.2.2", "b:::1")),
        ({"tmpfs": ["/a", "/b"]}, "mounts",
         (Mount(kind=MountKind.TMPFS, target="/a"), Mount(kind=MountKind.TMPFS, target="/b"))),
        ({"cpus": "2"}, "limits", Resources(cpu_nanos=2 * 10**9)),
        ({"mem_limit": 64 * MIB}, "limits", Resources(memory_bytes=64 * MIB)),
        ({"cpus": 1, "deploy": {"resources": {"limits": {"cpus": "1.0"}}}}, "limits",
         Resources(cpu_nanos=10**9)),
        ({"restart": "always"}, "restart", RestartPolicy()),
        ({"restart": "unless-stopped"}, "restart", RestartPolicy()),
        ({"restart": "on-failure"}, "restart", RestartPolicy(condition=RestartCondition.ON_FAILURE)),
        ({}, "restart", RestartPolicy(condition=RestartCondition.ANY)),
        ({"restart": "no", "deploy": {"restart_policy": {}}}, "restart", RestartPolicy()),
        ({"platform": "linux"}, "placement", Placement(platforms=(Platform(os="linux"),))),
        ({"platform": "arm64"}, "placement", Placement(platforms=(Platform(architecture="arm64"),))),
        ({"platform": "linux/x86_64"}, "placement",
         Placement(platforms=(Platform(os="linux", architecture="amd64"),))),
        ({"platform": "linux/arm/v7"}, "placement",
         Placement(platforms=(Platform(os="linux", architecture="arm"),))),
        ({"scale": 0}, "replicas", 0),
        ({"deploy": {"replicas": "4"}}, "replicas", 4),
        ({"scale": 2, "deploy": {"replicas": 2}}, "replicas", 2),
        ({"network_mode": "none"}, "network_mode", NetworkMode.NONE),
        ({"network_mode": "none"}, "networks", ()),
        ({"network_mode": "bridge"}, "networks", ()),
        ({"network_mode": "host", "ports": ["80:80"]}, "ports", ()),
        ({}, "networks", (NetworkAttachment(network="demo_default"),)),
        ({"networks": []}, "networks", (NetworkAttachment(network="demo_default"),)),
        ({"networks": {"default": {"aliases": ["a", "a"]}}}, "networks",
         (NetworkAttachment(network="demo_default", aliases=("a",)),)),
        ({"deploy": {"endpoint_mode": "dnsrr"}}, "replicas", 1),
        ({"stop_grace_period": "0"}, "stop_grace_seconds", 0.0),
        ({"privileged": False, "devices": [], "x-mine": 1, "secrets": None}, "cap_add", ()),
        ({"ulimits": {"core": -1}}, "ulimits", (Ulimit(name="core", soft=-1, hard=-1),)),
        ({"oom_score_adj": "-5"}, "oom_score_adj", -5),
    ],
)  # fmt: skip
def test_a_key_in_any_of_its_spellings(keys: dict[str, Any], field: str, value: Any) -> None:
    spec = service(**keys)

    parts = (spec.task.container, spec.task, spec)
    assert next(getattr(part, field) for part in parts if hasattr(part, field)) == value


def test_yaml_1_1_does_not_show_through() -> None:
    project = loaded(
        "services: {web: {image: web, hostname: on, ports: [22:22],"
        " environment: {T: 22:22, Y: yes, O: 0o17, D: 2026-01-01, F: 1e3}}}"
    )
    container = project.services[0].task.container
    assert container.hostname == "on"
    assert project.services[0].task.ports == (PublishedPort(target=22, published=22),)
    assert container.environment == {
        "T": "22:22",
        "Y": "yes",
        "O": "0o17",
        "D": "2026-01-01",
        "F": "1e3",
    }


def test_variables_are_replaced_before_types_are_looked_at() -> None:
    project = loaded(
        "services: {web: {image: 'web:$TAG', init: $INIT, user: $USER_ID,"
        " deploy: {replicas: $N, resources: {limits: {cpus: $CPUS, memory: $MEMORY}}}}}",
        TAG="1.10", INIT="true", USER_ID="1000", N="3", CPUS=".5", MEMORY="64m",
    )  # fmt: skip
    (spec,) = project.services
    assert spec.task.container.image == "web:1.10"
    assert spec.task.container.init is True
    assert spec.task.container.user == "1000"
    assert spec.replicas == 3
    assert spec.task.limits == Resources(cpu_nanos=500_000_000, memory_bytes=64 * MIB)


def test_only_a_relative_path_of_the_host_is_worked_out() -> None:
    project = loaded(
        "services: {web: {image: web, volumes: ['/a/../b:/1', './c:/2', '~/d:/3', '..:/4']}}",
        HOME="/home/me",
    )
    mounts = project.services[0].task.container.mounts
    assert [mount.source for mount in mounts] == ["/a/../b", "/app/c", "/home/me/d", "/"]
    assert [warning.path for warning in project.warnings] == [
        f"services.web.volumes[{index}]" for index in (1, 2, 3)
    ]


def test_an_unset_variable_is_told_of_with_its_place() -> None:
    project = loaded("services:\n  web:\n    image: web$TAG\nx-unused: $NEVER\n")
    assert [str(warning) for warning in project.warnings] == [
        "compose.yaml:3:12: services.web.image: variable TAG is not set; it is empty here"
    ]


def test_the_stack_is_called_by_the_argument_or_else_by_the_file() -> None:
    text = "name: own\nservices: {web: {image: 'web:${COMPOSE_PROJECT_NAME:-none}'}}"
    given = loaded(text)
    assert given.name == "demo"
    assert given.services[0].task.container.image == "web:demo"
    own = load([Source("f", text)], environment={}, directory="/", read=read)
    assert own.name == "own"
    assert own.services[0].name == "own_web"


@pytest.mark.parametrize(
    ("profiles", "names"),
    [
        ("", ["demo_web"]),
        ("debug", ["demo_web", "demo_shell"]),
        ("test,debug", ["demo_web", "demo_shell"]),
        ("*", ["demo_web", "demo_shell"]),
        ("other", ["demo_web"]),
    ],
)
def test_profiles_choose_services(profiles: str, names: list[str]) -> None:
    text = "services:\n web: {image: web}\n shell: {image: sh, profiles: [debug, all]}\n"
    project = loaded(text, COMPOSE_PROFILES=profiles)
    assert [spec.name for spec in project.services] == names
    left_out = (
        "compose.yaml:3:2: services.shell: left out: none of its profiles (debug, all) is in "
        "COMPOSE_PROFILES"
    )
    expected = [left_out] if len(names) == 1 else []
    assert [str(warning) for warning in project.warnings] == expected


def test_a_service_that_is_left_out_is_not_looked_at() -> None:
    text = "services:\n web: {image: web}\n shell: {build: ., profiles: [debug]}\n"
    assert len(loaded(text).services) == 1


def test_durations_of_a_file_are_finite() -> None:
    assert math.isfinite(service(stop_grace_period="876000h").task.container.stop_grace_seconds)

import math
from typing import Any

import msgspec
import pytest

from cluster.errors import InvalidError
from cluster.images import canonical, reference_flaw
from cluster.model import (
    Affinity,
    ContainerSpec,
    DisruptionBudget,
    FailureAction,
    Healthcheck,
    Mount,
    MountKind,
    NetworkAttachment,
    NetworkMode,
    Placement,
    Preferred,
    PublishedPort,
    ServiceMode,
    ServiceSpec,
    SpreadPreference,
    Strategy,
    TaskSpec,
    Ulimit,
)
from cluster.resources import Resources
from cluster.validation import check_name, check_service, name_flaw, service_flaws

WEB = ServiceSpec(name="web", task=TaskSpec(container=ContainerSpec(image="web:1")))


def changed(value: Any, path: str, to: Any) -> Any:
    """Return *value* with the field at *path* set."""
    field, _, rest = path.partition(".")
    new = changed(getattr(value, field), rest, to) if rest else to
    return msgspec.structs.replace(value, **{field: new})


def bind(target: str = "/data", source: str = "/srv") -> Mount:
    return Mount(kind=MountKind.BIND, target=target, source=source)


FULL = ServiceSpec(
    name="shop_web",
    stack="shop",
    labels={"team": "a"},
    replicas=0,
    priority=-1000,
    preempts=True,
    budget=DisruptionBudget(max_unavailable=0),
    gang="shop_all",
    task=TaskSpec(
        container=ContainerSpec(
            image="registry.example:5000/team/web:1.2@sha256:" + "a" * 64,
            command=("run", ""),
            entrypoint=(),
            environment={"A": "", "B": "ü€"},
            user="1000:1000",
            working_dir="/srv",
            hostname="web-1.example",
            mounts=(
                bind(),
                Mount(kind=MountKind.VOLUME, target="/cache", source="shop_cache", bound=True),
                Mount(kind=MountKind.VOLUME, target="/anonymous"),
                Mount(kind=MountKind.TMPFS, target="/tmp", tmpfs_mode=0o1777),
            ),
            healthcheck=Healthcheck(test=("CMD", "true"), interval_seconds=0.001),
            ulimits=(Ulimit(name="nofile", soft=1, hard=-1), Ulimit(name="core", soft=-1, hard=-1)),
            sysctls={
                "net.core.somaxconn": "1024",
                "kernel.sem": "1 2 3 4",
                "fs.mqueue.msg_max": "9",
            },
            cap_add=("NET_ADMIN", "cap_sys_time"),
            cap_drop=("ALL",),
            stop_signal="SIGRTMIN+3",
            extra_hosts=("db:192.0.2.7", "six:2001:db8::1", "host:host-gateway"),
            dns=("192.0.2.53",),
            oom_score_adj=-1000,
        ),
        limits=Resources(cpu_nanos=1_000_000, memory_bytes=6 * 1024**2),
        reservations=Resources(
            cpu_nanos=1_000_000, memory_bytes=6 * 1024**2, generic={"gpu": 1, "NVIDIA-GPU": 2}
        ),
        placement=Placement(
            constraints=("any(node.labels.disk == ssd; node.labels.disk not exists)",),
            preferences=(SpreadPreference(key="node.labels.zone"), SpreadPreference(key="node.id")),
            affinities=(
                Affinity(service="shop_db"),
                Affinity(service="shop_web", topology="node.labels.rack", anti=True, weight=100),
            ),
            prefer=(Preferred(constraint="node.labels.gb > 16", weight=1),),
            strategy=Strategy.SPREAD,
            tolerates=("gpu",),
            stays=True,
        ),
        networks=(NetworkAttachment(network="shop_default", aliases=("web",)),),
        ports=(
            PublishedPort(target=80, published=8080),
            PublishedPort(target=80, published=8080, protocol="udp"),
            PublishedPort(target=81),
            PublishedPort(target=82),
            PublishedPort(target=80, published=9090, host_ip="192.0.2.1"),
            PublishedPort(target=80, published=9090, host_ip="192.0.2.2"),
        ),
    ),
)


@pytest.mark.parametrize("spec", [WEB, FULL, changed(WEB, "mode", ServiceMode.GLOBAL)])
def test_a_sound_service_has_no_flaw(spec: ServiceSpec) -> None:
    assert service_flaws(spec) == ()
    check_service(spec)


@pytest.mark.parametrize(
    ("path", "value", "field", "message"),
    [
        ("name", "", "name", "empty"),
        ("name", "a" * 64, "name", "63"),
        ("name", "web.1", "name", "letters, digits"),
        ("name", "-web", "name", "letters, digits"),
        ("stack", "shop", "name", "shop_"),
        ("stack", "sh op", "stack", "letters, digits"),
        ("replicas", -1, "replicas", "is -1"),
        ("replicas", 1_000_001, "replicas", "1000001"),
        ("labels", {"": "x"}, "labels", "empty name"),
        ("labels", {"shoal.task": "x"}, "labels.shoal.task", "reserved"),
        ("update.parallelism", -1, "update.parallelism", "0 or more"),
        ("update.max_failure_ratio", 1.5, "update.max_failure_ratio", "0 to 1"),
        ("update.max_failure_ratio", math.nan, "update.max_failure_ratio", "finite"),
        ("update.delay_seconds", -1.0, "update.delay_seconds", "is -1s"),
        ("update.monitor_seconds", math.inf, "update.monitor_seconds", "finite"),
        ("update.canary", -1, "update.canary", "0 or more"),
        ("update.canary", 5, "update.canary", "at most the 1 replicas there are, is 5"),
        ("update.promote_after_seconds", 9.0, "update.promote_after_seconds", "without a canary"),
        ("update.progress_deadline_seconds", -1.0, "update.progress_deadline_seconds", "is -1s"),
        ("rollback.canary", 1, "rollback.canary", "must be 0"),
        ("rollback.failure_action", FailureAction.ROLLBACK, "rollback.failure_action", "pause"),
        ("task.force_update", -1, "task.force_update", "0 or more"),
        ("task.restart.delay_seconds", 1e11, "task.restart.delay_seconds", "100 years"),
        ("task.restart.max_attempts", -1, "task.restart.max_attempts", "0 or more"),
        ("task.restart.window_seconds", -1.0, "task.restart.window_seconds", "is -1s"),
        (
            "task.placement.constraints",
            ("node.role == worker", "node.role ~= worker"),
            "task.placement.constraints[1]",
            "operator",
        ),
        (
            "task.placement.max_replicas_per_node",
            -1,
            "task.placement.max_replicas_per_node",
            "0 or more",
        ),
        (
            "task.placement.preferences",
            (SpreadPreference(key="node.labels.zone"), SpreadPreference(key="zone")),
            "task.placement.preferences[1].key",
            "did you mean 'node.labels.zone'",
        ),
        (
            "task.placement.preferences",
            (SpreadPreference(key="node.labels.a"), SpreadPreference(key="node.labels.a")),
            "task.placement.preferences[1].key",
            "already",
        ),
        (
            "task.placement.preferences",
            tuple(SpreadPreference(key=f"node.labels.{level}") for level in "abcde"),
            "task.placement.preferences",
            "at most 4, are 5",
        ),
        (
            "task.placement.affinities",
            (Affinity(service="a b"),),
            "task.placement.affinities[0].service",
            "letters",
        ),
        (
            "task.placement.affinities",
            (Affinity(service="db", topology="node.ip"),),
            "task.placement.affinities[0].topology",
            "node.id",
        ),
        (
            "task.placement.affinities",
            (Affinity(service="db", weight=101),),
            "task.placement.affinities[0].weight",
            "0 to 100",
        ),
        (
            "task.placement.affinities",
            tuple(Affinity(service=f"s{number}") for number in range(33)),
            "task.placement.affinities",
            "at most 32, are 33",
        ),
        (
            "task.placement.prefer",
            (Preferred(constraint="node.role = worker", weight=1),),
            "task.placement.prefer[0].constraint",
            "did you mean '=='",
        ),
        (
            "task.placement.prefer",
            (Preferred(constraint="node.role == worker", weight=0),),
            "task.placement.prefer[0].weight",
            "1 to 100",
        ),
        ("task.placement.tolerates", ("a", ""), "task.placement.tolerates[1]", "empty"),
        ("priority", 1001, "priority", "-1000 to 1000"),
        ("budget", DisruptionBudget(max_unavailable=-1), "budget.max_unavailable", "0 to 1000000"),
        ("budget", DisruptionBudget(max_unavailable=10**7), "budget.max_unavailable", "1000000"),
        ("gang", "a b", "gang", "letters"),
        (
            "task.reservations",
            Resources(generic={"1gpu": 1}),
            "task.reservations.generic.1gpu",
            "beginning with a letter",
        ),
        (
            "task.reservations",
            Resources(generic={"gpu": 0}),
            "task.reservations.generic.gpu",
            "1 to 1000000, is 0",
        ),
        (
            "task.reservations",
            Resources(generic={"gpu-a": 1, "GPU_A": 1}),
            "task.reservations.generic.GPU_A",
            "'gpu-a'",
        ),
        (
            "task.reservations",
            Resources(generic={f"kind{number}": 1 for number in range(17)}),
            "task.reservations.generic",
            "at most 16",
        ),
        ("task.limits", Resources(generic={"gpu": 1}), "task.limits.generic", "only reserved"),
        (
            "task.container.mounts",
            (Mount(kind=MountKind.VOLUME, target="/a", bound=True),),
            "task.container.mounts[0].bound",
            "named volume",
        ),
        ("task.limits", Resources(cpu_nanos=999_999), "task.limits.cpu_nanos", "0.001"),
        ("task.limits", Resources(cpu_nanos=-1), "task.limits.cpu_nanos", "0.001"),
        ("task.limits", Resources(memory_bytes=1024), "task.limits.memory_bytes", "6MiB"),
        ("task.limits", Resources(memory_bytes=2**63), "task.limits.memory_bytes", "too large"),
        (
            "task.reservations",
            Resources(memory_bytes=-1),
            "task.reservations.memory_bytes",
            "0 or more",
        ),
        ("task.container.image", "", "task.container.image", "name an image"),
        ("task.container.image", "web: 1", "task.container.image", "tag"),
        ("task.container.command", ("a", "b\0"), "task.container.command[1]", "NUL"),
        ("task.container.user", "\ud800", "task.container.user", "UTF-8"),
        ("task.container.environment", {"A=B": "x"}, "task.container.environment", "'A=B'"),
        ("task.container.environment", {"": "x"}, "task.container.environment", "name of a"),
        ("task.container.environment", {"A": "\0"}, "task.container.environment.A", "NUL"),
        ("task.container.working_dir", "srv", "task.container.working_dir", "'/'"),
        ("task.container.hostname", "a b", "task.container.hostname", "host name"),
        ("task.container.hostname", "a" * 64, "task.container.hostname", "63"),
        ("task.container.cap_add", ("NET_ADMN",), "task.container.cap_add[0]", "NET_ADMIN"),
        ("task.container.cap_drop", ("FLY",), "task.container.cap_drop[0]", "no capability"),
        (
            "task.container.ulimits",
            (Ulimit(name="nofiles", soft=1, hard=1),),
            "task.container.ulimits.nofiles",
            "'nofile'",
        ),
        (
            "task.container.ulimits",
            (Ulimit(name="core", soft=2, hard=1),),
            "task.container.ulimits.core",
            "above hard",
        ),
        (
            "task.container.ulimits",
            (Ulimit(name="core", soft=-1, hard=1),),
            "task.container.ulimits.core",
            "above hard",
        ),
        (
            "task.container.ulimits",
            (Ulimit(name="core", soft=-2, hard=1),),
            "task.container.ulimits.core",
            "-1",
        ),
        (
            "task.container.ulimits",
            (Ulimit(name="core", soft=1, hard=1), Ulimit(name="core", soft=1, hard=1)),
            "task.container.ulimits.core",
            "twice",
        ),
        (
            "task.container.sysctls",
            {"vm.swappiness": "1"},
            "task.container.sysctls.vm.swappiness",
            "whole host",
        ),
        (
            "task.container.sysctls",
            {"kernel.shmal": "1"},
            "task.container.sysctls.kernel.shmal",
            "kernel.shmall",
        ),
        ("task.container.oom_score_adj", 1001, "task.container.oom_score_adj", "-1000 to 1000"),
        ("task.container.pids_limit", -1, "task.container.pids_limit", "0 or more"),
        ("task.container.shm_size_bytes", -1, "task.container.shm_size_bytes", "0 or more"),
        ("task.container.stop_signal", "SIGTREM", "task.container.stop_signal", "SIGTERM"),
        ("task.container.stop_signal", "99", "task.container.stop_signal", "no signal"),
        (
            "task.container.stop_grace_seconds",
            -0.5,
            "task.container.stop_grace_seconds",
            "is -0.5s",
        ),
        ("task.container.group_add", ("",), "task.container.group_add[0]", "empty"),
        ("task.container.extra_hosts", ("db",), "task.container.extra_hosts[0]", "NAME:ADDRESS"),
        ("task.container.extra_hosts", ("a:b",), "task.container.extra_hosts[0]", "NAME:ADDRESS"),
        ("task.container.dns", ("dns.example",), "task.container.dns[0]", "IP address"),
        (
            "task.container.healthcheck",
            Healthcheck(test=("true",)),
            "task.container.healthcheck.test",
            "CMD-SHELL",
        ),
        (
            "task.container.healthcheck",
            Healthcheck(test=("CMD",)),
            "task.container.healthcheck.test",
            "needs a command",
        ),
        (
            "task.container.healthcheck",
            Healthcheck(test=("CMD-SHELL", "a", "b")),
            "task.container.healthcheck.test",
            "one line",
        ),
        (
            "task.container.healthcheck",
            Healthcheck(interval_seconds=0.0001),
            "task.container.healthcheck.interval_seconds",
            "1ms",
        ),
        (
            "task.container.healthcheck",
            Healthcheck(retries=-1),
            "task.container.healthcheck.retries",
            "0 or more",
        ),
        ("task.container.mounts", (bind("data"),), "task.container.mounts[0].target", "'/'"),
        ("task.container.mounts", (bind("/"),), "task.container.mounts[0].target", "is not '/'"),
        (
            "task.container.mounts",
            (bind("/a"), bind("/a/")),
            "task.container.mounts[1].target",
            "twice",
        ),
        (
            "task.container.mounts",
            (bind(source="./x"),),
            "task.container.mounts[0].source",
            "on the host",
        ),
        (
            "task.container.mounts",
            (Mount(kind=MountKind.VOLUME, target="/a", source="a/b"),),
            "task.container.mounts[0].source",
            "name of a volume",
        ),
        (
            "task.container.mounts",
            (Mount(kind=MountKind.TMPFS, target="/a", source="a"),),
            "task.container.mounts[0].source",
            "tmpfs",
        ),
        (
            "task.container.mounts",
            (Mount(kind=MountKind.TMPFS, target="/a", tmpfs_mode=0o10000),),
            "task.container.mounts[0].tmpfs_mode",
            "07777",
        ),
        (
            "task.container.mounts",
            (Mount(kind=MountKind.BIND, target="/a", source="/a", propagation="public"),),
            "task.container.mounts[0].propagation",
            "rprivate",
        ),
        (
            "task.container.mounts",
            (Mount(kind=MountKind.BIND, target="/a", source="/a:b", create_host_path=True),),
            "task.container.mounts[0].source",
            "on demand",
        ),
        (
            "task.container.mounts",
            (Mount(kind=MountKind.VOLUME, target="/a", labels={"shoal.x": ""}),),
            "task.container.mounts[0].labels.shoal.x",
            "reserved",
        ),
        ("task.ports", (PublishedPort(target=0),), "task.ports[0].target", "1 to 65535"),
        (
            "task.ports",
            (PublishedPort(target=1, published=65536),),
            "task.ports[0].published",
            "65536",
        ),
        (
            "task.ports",
            (PublishedPort(target=1, protocol="tpc"),),
            "task.ports[0].protocol",
            "'tcp'",
        ),
        (
            "task.ports",
            (PublishedPort(target=1, host_ip="host"),),
            "task.ports[0].host_ip",
            "IP address",
        ),
        (
            "task.ports",
            (PublishedPort(target=1, published=80), PublishedPort(target=2, published=80)),
            "task.ports[1].published",
            "80/tcp is published twice",
        ),
        (
            "task.ports",
            (
                PublishedPort(target=1, published=80, host_ip="192.0.2.1"),
                PublishedPort(target=2, published=80),
            ),
            "task.ports[1].published",
            "twice",
        ),
        (
            "task.ports",
            (
                PublishedPort(target=1, published=80),
                PublishedPort(target=2, published=80, host_ip="192.0.2.1"),
            ),
            "task.ports[1].published",
            "twice",
        ),
        (
            "task.networks",
            (NetworkAttachment(network="a"), NetworkAttachment(network="a")),
            "task.networks[1].network",
            "twice",
        ),
        ("task.networks", (NetworkAttachment(network=""),), "task.networks[0].network", "name"),
        (
            "task.networks",
            (NetworkAttachment(network="a", aliases=("b c",)),),
            "task.networks[0].aliases",
            "'b c'",
        ),
    ],
)
def test_a_flaw_names_its_field_and_what_is_expected(
    path: str, value: Any, field: str, message: str
) -> None:
    flaws = service_flaws(changed(WEB, path, value))

    assert [flaw.field for flaw in flaws] == [field]
    assert message in flaws[0].message


def test_reservations_stay_within_limits() -> None:
    task = msgspec.structs.replace(
        WEB.task,
        limits=Resources(cpu_nanos=10**9, memory_bytes=2**30),
        reservations=Resources(cpu_nanos=10**9 + 1, memory_bytes=2**30 + 1),
    )

    flaws = service_flaws(changed(WEB, "task", task))

    assert [flaw.field for flaw in flaws] == [
        "task.reservations.cpu_nanos",
        "task.reservations.memory_bytes",
    ]
    assert "limit of 1GiB" in flaws[1].message


def test_a_container_on_the_hosts_network_has_none_of_its_own() -> None:
    spec = changed(FULL, "task.network_mode", NetworkMode.HOST)

    assert {flaw.field for flaw in service_flaws(spec)} == {
        "task.networks",
        "task.ports",
        "task.container.sysctls.net.core.somaxconn",
    }


def test_one_task_on_each_node_cannot_be_a_gang_nor_be_spread() -> None:
    spec = changed(FULL, "mode", ServiceMode.GLOBAL)

    assert {flaw.field for flaw in service_flaws(spec)} == {
        "gang",
        "task.placement.preferences",
        "task.placement.prefer",
    }


def test_a_gang_is_of_its_stack() -> None:
    flaws = service_flaws(changed(FULL, "gang", "all"))

    assert [(flaw.field, "shop_" in flaw.message) for flaw in flaws] == [("gang", True)]


def test_all_flaws_are_told_at_once() -> None:
    spec = changed(changed(WEB, "replicas", -1), "task.container.image", "")

    with pytest.raises(InvalidError) as caught:
        check_service(spec)

    assert str(caught.value).splitlines() == [
        "service 'web': replicas: must be 0 to 1000000, is -1",
        "service 'web': task.container.image: must name an image",
    ]


def test_an_error_stays_short_whatever_was_sent() -> None:
    dns = tuple("x" * 10_000 for _ in range(100))

    with pytest.raises(InvalidError) as caught:
        check_service(changed(WEB, "task.container.dns", dns))

    assert len(str(caught.value)) < 8_000
    assert str(caught.value).endswith("and 88 more")


def test_a_name_is_checked_for_its_kind() -> None:
    assert name_flaw("a-B_9") == ""
    check_name("stack", "shop")
    with pytest.raises(InvalidError, match=r"^stack name must not be empty$"):
        check_name("stack", "")


@pytest.mark.parametrize(
    "reference",
    [
        "web",
        "web:1.2",
        "team/web",
        "a__b/c-d.e",
        "localhost/web",
        "registry.example/team/web:1",
        "registry:5000/web",
        "[::1]:5000/web",
        "Registry.Example/web",
        "web@sha256:" + "0" * 64,
        "sha256:" + "0" * 64,
    ],
)
def test_references_to_images_are_accepted(reference: str) -> None:
    assert reference_flaw(reference) == ""


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("Web", "perhaps 'web'"),
        ("team/", "such as registry.example"),
        (":1", "such as registry.example"),
        ("web:", "tag"),
        ("web:a b", "tag"),
        ("web@latest", "digest"),
        ("web@sha256:12", "digest"),
        ("a" * 256, "255"),
        ("web\n", "such as"),
        ("/web", "such as"),
        ("re_gistry.example/web:", "tag"),
        ("${TAG}", "such as"),
    ],
)
def test_what_is_no_reference_is_refused(reference: str, message: str) -> None:
    assert message in reference_flaw(reference)


@pytest.mark.parametrize(
    ("reference", "name"),
    [
        ("web", "web:latest"),
        ("web:1", "web:1"),
        ("docker.io/library/web", "web:latest"),
        ("index.docker.io/team/web:2", "team/web:2"),
        ("docker.io/web", "web:latest"),
        ("registry:5000/web", "registry:5000/web:latest"),
        ("registry:5000/library/web:1", "registry:5000/library/web:1"),
        ("web:1@sha256:" + "a" * 64, "web@sha256:" + "a" * 64),
        ("registry:5000/web@sha256:" + "a" * 64, "registry:5000/web@sha256:" + "a" * 64),
        ("sha256:" + "0" * 64, "sha256:" + "0" * 64),
    ],
)
def test_an_image_has_one_canonical_name(reference: str, name: str) -> None:
    assert canonical(reference) == name
    assert canonical(name) == name

"""The pure parts of the Docker runtime: what is said to Docker, and what its answers mean."""

import io
import struct
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent.runtime import labels, log_frames, refusals, translate
from agent.runtime.cgroups import Cgroups
from agent.runtime.engine import EngineRefusalError, negotiate, refusal
from agent.runtime.interface import (
    CannotRunError,
    ContainerId,
    ContainerState,
    ContainerUsage,
    Health,
    LogLine,
    LogStream,
    NetworkMissingError,
    Owner,
    RuntimeFailedError,
    RuntimeUnavailableError,
)
from cluster.model import (
    Assignment,
    ClusterId,
    ContainerSpec,
    Healthcheck,
    LogOptions,
    Mount,
    MountKind,
    NetworkAttachment,
    NetworkMode,
    NodeId,
    PublishedPort,
    ServiceId,
    TaskId,
    TaskSpec,
    TaskState,
    Ulimit,
)
from cluster.resources import Resources

OWNER = Owner(ClusterId("c1"), NodeId("n1"))
TASK = Assignment(
    task_id=TaskId("t1"),
    service_id=ServiceId("s1"),
    service_name="shop_web",
    stack="shop",
    spec_version=7,
    slot=2,
    node_id=NodeId("n1"),
    desired_state=TaskState.RUNNING,
    state=TaskState.ASSIGNED,
)


def config(spec: TaskSpec) -> dict[str, Any]:
    return translate.container_config(OWNER, TASK, spec)


def of_container(**container: Any) -> dict[str, Any]:
    return config(TaskSpec(container=ContainerSpec(image="web:1", **container)))


# --- our specification as Docker's ------------------------------------------------------------


def test_a_bare_specification_leaves_everything_to_the_image_and_to_docker() -> None:
    given = of_container()

    assert given["Image"] == "web:1"
    assert given["HostConfig"]["RestartPolicy"] == {"Name": "no"}
    assert given["HostConfig"]["NetworkMode"] == "bridge"
    for absent in ("Cmd", "Entrypoint", "Healthcheck", "StopSignal", "NetworkingConfig"):
        assert absent not in given
    for absent in ("PidsLimit", "Init", "ShmSize"):
        assert absent not in given["HostConfig"]
    for zero in ("Memory", "MemoryReservation", "NanoCpus", "CpuShares"):
        assert given["HostConfig"][zero] == 0


def test_a_container_is_told_its_generic_resources_unless_it_was_told_otherwise() -> None:
    spec = TaskSpec(
        container=ContainerSpec(image="web:1", environment={"SHOAL_RESOURCE_DISK": "mine"}),
        reservations=Resources(generic={"gpu": 2, "disk": 3}),
    )
    task = msgspec.structs.replace(TASK, generic_items={"gpu": ("a", "b")})

    assert sorted(translate.container_config(OWNER, task, spec)["Env"]) == [
        "DOCKER_RESOURCE_DISK=3",
        "DOCKER_RESOURCE_GPU=a,b",
        "SHOAL_RESOURCE_DISK=mine",
        "SHOAL_RESOURCE_GPU=a,b",
    ]


@pytest.mark.parametrize(
    ("row", "names"),
    [
        ({"RepoTags": ["a:1", "b:2"], "RepoDigests": ["a@sha256:0"]}, ("a:1", "b:2")),
        ({"RepoTags": ["<none>:<none>"], "RepoDigests": ["a@sha256:0"]}, ("a@sha256:0",)),
        ({"RepoTags": None, "RepoDigests": ["a@sha256:0"]}, ("a@sha256:0",)),
        ({"RepoTags": ["<none>:<none>"], "RepoDigests": ["<none>@<none>"]}, ()),
        ({"RepoTags": [], "RepoDigests": None}, ()),
    ],
)
def test_an_image_is_known_by_its_tags_or_else_its_digest(
    row: dict[str, Any], names: tuple[str, ...]
) -> None:
    assert translate.image_names(row) == names


@pytest.mark.parametrize(
    ("field", "value", "place", "said"),
    [
        ("command", ("a", "b"), "Cmd", ["a", "b"]),
        ("command", (), "Cmd", []),
        ("entrypoint", ("a", "b"), "Entrypoint", ["a", "b"]),
        ("entrypoint", (), "Entrypoint", [""]),
        ("environment", {"A": "1", "B": "x=y"}, "Env", ["A=1", "B=x=y"]),
        ("user", "nobody:nogroup", "User", "nobody:nogroup"),
        ("working_dir", "/srv", "WorkingDir", "/srv"),
        ("hostname", "h", "Hostname", "h"),
        ("stop_signal", "SIGINT", "StopSignal", "SIGINT"),
        ("stop_grace_seconds", 1.5, "StopTimeout", 2),
        ("stop_grace_seconds", 0.0, "StopTimeout", 0),
        ("tty", True, "Tty", True),
        ("stdin_open", True, "OpenStdin", True),
    ],
)
def test_fields_of_the_container(field: str, value: object, place: str, said: object) -> None:
    assert of_container(**{field: value})[place] == said


@pytest.mark.parametrize(
    ("field", "value", "place", "said"),
    [
        ("pids_limit", 100, "PidsLimit", 100),
        ("init", True, "Init", True),
        ("init", False, "Init", False),
        ("read_only", True, "ReadonlyRootfs", True),
        ("shm_size_bytes", 1 << 20, "ShmSize", 1 << 20),
        ("oom_score_adj", -5, "OomScoreAdj", -5),
        ("cap_add", ("NET_ADMIN",), "CapAdd", ["NET_ADMIN"]),
        ("cap_drop", ("ALL",), "CapDrop", ["ALL"]),
        ("group_add", ("audio",), "GroupAdd", ["audio"]),
        ("extra_hosts", ("db:198.18.0.9",), "ExtraHosts", ["db:198.18.0.9"]),
        ("dns", ("198.18.0.53",), "Dns", ["198.18.0.53"]),
        ("dns_search", ("example",), "DnsSearch", ["example"]),
        ("dns_options", ("ndots:1",), "DnsOptions", ["ndots:1"]),
        ("sysctls", {"net.core.somaxconn": "9"}, "Sysctls", {"net.core.somaxconn": "9"}),
        (
            "ulimits",
            (Ulimit(name="nofile", soft=1, hard=-1),),
            "Ulimits",
            [{"Name": "nofile", "Soft": 1, "Hard": -1}],
        ),
        (
            "log",
            LogOptions(driver="json-file", options={"max-size": "1m"}),
            "LogConfig",
            {"Type": "json-file", "Config": {"max-size": "1m"}},
        ),
    ],
)
def test_fields_of_the_host(field: str, value: object, place: str, said: object) -> None:
    assert of_container(**{field: value})["HostConfig"][place] == said


def test_reservations_weigh_and_limits_bound() -> None:
    spec = TaskSpec(
        container=ContainerSpec(image="web:1"),
        reservations=Resources(cpu_nanos=500_000_000, memory_bytes=10 << 20),
        limits=Resources(cpu_nanos=1_500_000_000, memory_bytes=20 << 20),
    )

    host = config(spec)["HostConfig"]

    assert (host["CpuShares"], host["MemoryReservation"]) == (512, 10 << 20)
    assert (host["NanoCpus"], host["Memory"]) == (1_500_000_000, 20 << 20)


def test_a_tiny_reservation_still_has_the_least_weight_that_the_kernel_knows() -> None:
    tiny = Resources(cpu_nanos=1_000_000)
    spec = TaskSpec(container=ContainerSpec(image="web:1"), reservations=tiny)

    assert config(spec)["HostConfig"]["CpuShares"] == 2


def test_a_health_check_is_said_in_nanoseconds() -> None:
    check = Healthcheck(
        test=("CMD", "true"),
        interval_seconds=0.5,
        timeout_seconds=2,
        start_period_seconds=3,
        retries=4,
    )

    assert of_container(healthcheck=check)["Healthcheck"] == {
        "Test": ["CMD", "true"],
        "Interval": 500_000_000,
        "Timeout": 2_000_000_000,
        "StartPeriod": 3_000_000_000,
        "Retries": 4,
    }


def test_users_labels_cannot_pretend_to_be_another_task() -> None:
    given = of_container(labels={"a": "b", labels.TASK: "t9"})["Labels"]

    assert given["a"] == "b"
    assert given[labels.TASK] == "t1"
    assert given[labels.CLUSTER] == "c1"
    assert given[labels.NODE] == "n1"
    assert given[labels.SERVICE] == "s1"
    assert given[labels.VERSION] == "7"
    assert given[labels.STACK] == "shop"


@pytest.mark.parametrize(
    ("mount", "said"),
    [
        (
            Mount(kind=MountKind.BIND, source="/a", target="/b", read_only=True),
            {"Type": "bind", "Source": "/a", "Target": "/b", "ReadOnly": True},
        ),
        (
            Mount(kind=MountKind.BIND, source="/a", target="/b", propagation="rslave"),
            {
                "Type": "bind",
                "Source": "/a",
                "Target": "/b",
                "ReadOnly": False,
                "BindOptions": {"Propagation": "rslave"},
            },
        ),
        (
            Mount(kind=MountKind.VOLUME, source="data", target="/b", no_copy=True),
            {
                "Type": "volume",
                "Source": "data",
                "Target": "/b",
                "ReadOnly": False,
                "VolumeOptions": {"NoCopy": True, "Labels": {labels.CLUSTER: "c1"}},
            },
        ),
        (
            Mount(
                kind=MountKind.VOLUME,
                source="data",
                target="/b",
                driver="nfs",
                driver_options={"o": "addr"},
                labels={"keep": "yes"},
            ),
            {
                "Type": "volume",
                "Source": "data",
                "Target": "/b",
                "ReadOnly": False,
                "VolumeOptions": {
                    "NoCopy": False,
                    "Labels": {"keep": "yes", labels.CLUSTER: "c1"},
                    "DriverConfig": {"Name": "nfs", "Options": {"o": "addr"}},
                },
            },
        ),
        (
            Mount(kind=MountKind.TMPFS, target="/b", tmpfs_size_bytes=4096, tmpfs_mode=0o700),
            {
                "Type": "tmpfs",
                "Target": "/b",
                "ReadOnly": False,
                "TmpfsOptions": {"SizeBytes": 4096, "Mode": 0o700},
            },
        ),
    ],
)
def test_mounts(mount: Mount, said: dict[str, Any]) -> None:
    host = of_container(mounts=(mount,))["HostConfig"]

    assert host["Mounts"] == [said]
    assert host["Binds"] == []


def test_a_bind_whose_source_is_to_be_made_uses_the_notation_that_makes_it() -> None:
    mount = Mount(
        kind=MountKind.BIND,
        source="/a",
        target="/b",
        read_only=True,
        create_host_path=True,
        propagation="rslave",
    )
    plain = Mount(kind=MountKind.BIND, source="/a", target="/c", create_host_path=True)

    host = of_container(mounts=(mount, plain))["HostConfig"]

    assert host["Binds"] == ["/a:/b:ro,rslave", "/a:/c"]
    assert host["Mounts"] == []


def test_a_path_with_a_colon_cannot_be_made_on_demand() -> None:
    mount = Mount(kind=MountKind.BIND, source="/a:b", target="/c", create_host_path=True)

    with pytest.raises(CannotRunError, match=r"/a:b -> /c"):
        of_container(mounts=(mount,))


def test_ports_are_published_on_the_host() -> None:
    spec = TaskSpec(
        container=ContainerSpec(image="web:1"),
        ports=(
            PublishedPort(target=80, published=8080),
            PublishedPort(target=80, published=8081, host_ip="127.0.0.1"),
            PublishedPort(target=53, protocol="udp"),
        ),
    )

    given = config(spec)

    assert given["ExposedPorts"] == {"80/tcp": {}, "53/udp": {}}
    assert given["HostConfig"]["PortBindings"] == {
        "80/tcp": [
            {"HostIp": "", "HostPort": "8080"},
            {"HostIp": "127.0.0.1", "HostPort": "8081"},
        ],
        "53/udp": [{"HostIp": "", "HostPort": ""}],
    }


@pytest.mark.parametrize("mode", [NetworkMode.HOST, NetworkMode.NONE])
def test_without_networks_of_its_own_a_container_publishes_nothing(mode: NetworkMode) -> None:
    spec = TaskSpec(
        container=ContainerSpec(image="web:1"),
        network_mode=mode,
        ports=(PublishedPort(target=80, published=8080),),
    )

    given = config(spec)

    assert given["HostConfig"]["NetworkMode"] == mode.value
    assert "PortBindings" not in given["HostConfig"]
    assert "ExposedPorts" not in given


def test_on_its_networks_a_container_goes_by_its_services_names() -> None:
    spec = TaskSpec(
        container=ContainerSpec(image="web:1"),
        networks=(
            NetworkAttachment(network="shop_front", aliases=("www", "web")),
            NetworkAttachment(network="shop_back"),
        ),
    )

    given = config(spec)

    assert given["HostConfig"]["NetworkMode"] == "shop_front"
    assert given["NetworkingConfig"]["EndpointsConfig"] == {
        "shop_front": {"Aliases": ["web", "shop_web", "www"]}
    }


def test_a_service_without_a_stack_goes_by_its_name() -> None:
    alone = msgspec.structs.replace(TASK, stack="", service_name="web")

    assert translate.endpoint_config(alone, ()) == {"Aliases": ["web"]}


# --- what Docker says -------------------------------------------------------------------------


def inspected(
    status: str = "running", health: dict[str, Any] | None = None, **state: Any
) -> dict[str, Any]:
    return {
        "Id": "abc",
        "Name": "/shop_web.2.t1",
        "Config": {
            "Labels": labels.container_labels(OWNER, TASK),
            "StopSignal": "SIGQUIT",
            "StopTimeout": 3,
            "Healthcheck": {"Retries": 2},
        },
        "HostConfig": {"Memory": 64 << 20},
        "State": {
            "Status": status,
            "ExitCode": 0,
            "OOMKilled": False,
            "Error": "",
            "StartedAt": "2026-11-23T06:40:47.5Z",
            "FinishedAt": "0001-01-01T00:00:00Z",
            **({"Health": health} if health else {}),
            **state,
        },
    }


def test_an_inspection_is_read() -> None:
    seen = translate.observed(inspected())

    assert seen is not None
    assert seen.id == "abc"
    assert seen.name == "shop_web.2.t1"
    assert (seen.task_id, seen.service_id, seen.spec_version) == ("t1", "s1", 7)
    assert seen.state is ContainerState.RUNNING
    assert seen.health is Health.NONE
    assert seen.exit_code is None
    assert (seen.stop_signal, seen.stop_grace_seconds) == ("SIGQUIT", 3.0)
    assert seen.memory_limit_bytes == 64 << 20
    assert seen.started_at == 1795416047.5
    assert seen.ended_at == 0.0


@pytest.mark.parametrize(
    ("said", "state"),
    [
        ("created", ContainerState.CREATED),
        ("running", ContainerState.RUNNING),
        ("restarting", ContainerState.RUNNING),
        ("paused", ContainerState.PAUSED),
        ("removing", ContainerState.EXITED),
        ("exited", ContainerState.EXITED),
        ("dead", ContainerState.EXITED),
    ],
)
def test_states_are_read(said: str, state: ContainerState) -> None:
    seen = translate.observed(inspected(said))

    assert seen is not None
    assert seen.state is state
    assert (seen.exit_code is None) == (state is not ContainerState.EXITED)


def test_the_name_is_part_of_whose_a_container_is() -> None:
    """Labels alone travel on with images that are committed from a container."""
    copy = {**inspected(), "Name": "/copy"}

    assert translate.observed(copy) is None


@pytest.mark.parametrize("missing", [labels.CLUSTER, labels.NODE, labels.TASK])
def test_a_container_without_our_labels_is_not_ours(missing: str) -> None:
    foreign = inspected()
    del foreign["Config"]["Labels"][missing]

    assert translate.observed(foreign) is None


def probes(*codes: int) -> list[dict[str, Any]]:
    return [
        {"ExitCode": code, "Output": f"probe {n}\n said {code}"} for n, code in enumerate(codes)
    ]


def test_the_last_failed_probe_tells_why_a_container_is_unhealthy() -> None:
    health = {"Status": "unhealthy", "FailingStreak": 2, "Log": probes(0, 1, 7)}

    seen = translate.observed(inspected(health=health))

    assert seen is not None
    assert (seen.health, seen.health_output) == (Health.UNHEALTHY, "probe 2 said 7")


@pytest.mark.parametrize(
    ("streak", "health"), [(0, Health.NONE), (1, Health.NONE), (2, Health.UNHEALTHY)]
)
def test_a_dead_container_was_unhealthy_only_if_its_probes_had_failed(
    streak: int, health: Health
) -> None:
    """Docker calls every dead container with a check unhealthy."""
    said = {"Status": "unhealthy", "FailingStreak": streak, "Log": probes(1)}

    seen = translate.observed(inspected("exited", health=said))

    assert seen is not None
    assert seen.health is health


def test_a_long_probe_output_is_cut() -> None:
    log = [{"ExitCode": 1, "Output": "x" * 5000}]
    health = {"Status": "unhealthy", "FailingStreak": 3, "Log": log}

    seen = translate.observed(inspected(health=health))

    assert seen is not None
    assert len(seen.health_output) == translate.PROBE_OUTPUT_MAX
    assert seen.health_output.endswith("…")


def test_a_listing_tells_enough_of_a_container_that_cannot_be_inspected() -> None:
    row = {
        "Id": "abc",
        "Names": ["/shop_web.2.t1"],
        "Labels": labels.container_labels(OWNER, TASK),
        "State": "exited",
        "Status": "Exited (137) 3 minutes ago",
    }

    seen = translate.listed(row)

    assert seen is not None
    assert (seen.task_id, seen.state, seen.exit_code) == ("t1", ContainerState.EXITED, 137)
    assert translate.listed({**row, "Names": ["/copy"]}) is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01T00:01:00Z", 60.0),
        ("1970-01-01T00:01:00.250000001Z", 60.250000001),
        ("1970-01-01T01:01:00.5+01:00", 60.5),
        ("0001-01-01T00:00:00Z", 0.0),
        ("", 0.0),
        ("nonsense", 0.0),
    ],
)
def test_moments_are_read(text: str, seconds: float) -> None:
    assert translate.seconds(text) == pytest.approx(seconds)


# --- refusals ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        (
            "... on endpoint web (ab): Bind for 0.0.0.0:8080 failed: port is already allocated",
            "port 0.0.0.0:8080 of this host is taken by another container",
        ),
        (
            "... userland proxy: listen tcp4 0.0.0.0:80: bind: address already in use",
            "port 0.0.0.0:80 of this host is taken by another process",
        ),
        (
            'OCI ... failed: exec: "nope": executable file not found in $PATH: unknown',
            "cannot execute 'nope': executable file not found in $PATH",
        ),
        (
            "invalid mount config for type bind: bind source path does not exist: /data",
            "bind mount: /data does not exist on this host; create it or set create_host_path",
        ),
        ("No such image: web:9", "image 'web:9' is not on this host"),
        ("something new", "Docker refuses: something new"),
    ],
)
def test_refusals_are_told_in_words_for_users(said: str, meant: str) -> None:
    assert str(refusals.refused(said)) == meant


@pytest.mark.parametrize("said", ["network app_front not found", "No such network: app_front"])
def test_a_missing_network_can_be_mended(said: str) -> None:
    assert isinstance(refusals.refused(said), NetworkMissingError)


def test_a_failure_is_hopeless_only_if_its_text_says_so() -> None:
    unclear = RuntimeFailedError("context deadline exceeded")
    taken = RuntimeFailedError("Bind for :::1 failed: port is already allocated")

    assert refusals.failed(unclear) is unclear
    assert isinstance(refusals.failed(taken), CannotRunError)


@pytest.mark.parametrize(
    ("status", "body", "kind", "message"),
    [
        (404, '{"message": "No such container: x"}', EngineRefusalError, "No such container: x"),
        (409, "plain\ntext", EngineRefusalError, "plain text"),
        (500, '{"message": "broken"}', RuntimeFailedError, "broken"),
        (503, "", RuntimeFailedError, "HTTP status 503"),
    ],
)
def test_answers_become_errors(status: int, body: str, kind: type[Exception], message: str) -> None:
    error = refusal(status, body)

    assert isinstance(error, kind)
    assert str(error) == message


# --- versions ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("newest", "oldest", "spoken"),
    [("1.41", "1.12", "1.41"), ("1.50", "1.24", "1.41"), ("1.52", "1.44", "1.44")],
)
def test_the_oldest_common_version_is_spoken(newest: str, oldest: str, spoken: str) -> None:
    assert negotiate({"ApiVersion": newest, "MinAPIVersion": oldest}) == spoken


def test_a_docker_that_is_too_old_is_refused() -> None:
    with pytest.raises(RuntimeUnavailableError, match=r"Docker 19\.03 is too old: 20\.10"):
        negotiate({"ApiVersion": "1.40", "MinAPIVersion": "1.12", "Version": "19.03"})


# --- logs -------------------------------------------------------------------------------------

MOMENT = b"1970-01-01T00:00:09Z "


def frame(stream: int, text: bytes) -> bytes:
    return struct.pack(">BxxxL", stream, len(text)) + text


def read(data: bytes) -> list[LogLine]:
    return list(log_frames.read(io.BytesIO(data)))


def test_frames_are_lines_of_two_streams() -> None:
    data = frame(1, MOMENT + b"out\n") + frame(2, MOMENT + b"err\n")

    assert read(data) == [
        LogLine(LogStream.STDOUT, 9.0, b"out"),
        LogLine(LogStream.STDERR, 9.0, b"err"),
    ]


def test_pieces_of_a_long_line_are_joined_stream_by_stream() -> None:
    data = frame(1, MOMENT + b"a" * 100) + frame(2, MOMENT + b"err\n")
    data += frame(1, MOMENT + b"b\n")

    assert [line.line for line in read(data)] == [b"err", b"a" * 100 + b"b"]


def test_a_line_that_never_ends_is_cut() -> None:
    piece = frame(1, MOMENT + b"x" * 16_384)
    count = log_frames.LINE_BYTES_MAX // 16_384

    lines = read(piece * (count + 1))

    assert [len(line.line) for line in lines] == [log_frames.LINE_BYTES_MAX, 16_384]


@pytest.mark.parametrize("cut", [3, 12])
def test_a_stream_that_breaks_off_loses_only_the_broken_line(cut: int) -> None:
    data = frame(1, MOMENT + b"whole\n") + frame(1, MOMENT + b"broken\n")[:cut]

    assert [line.line for line in read(data)] == [b"whole"]


def test_a_terminal_has_one_stream_and_no_frames() -> None:
    data = MOMENT + b"one\r\n" + MOMENT + b"two\r\nrest"

    lines = list(log_frames.read_terminal([data[:5], data[5:30], data[30:]]))

    assert [(line.at, line.line) for line in lines] == [
        (9.0, b"one"),
        (9.0, b"two"),
        (0.0, b"rest"),
    ]


# --- use --------------------------------------------------------------------------------------

ID = ContainerId("a" * 64)


def v1(root: Path, folder: str, cpu: str = "5000", memory: str = "3000") -> None:
    for controller in ("cpuacct", "memory"):
        (root / controller / folder).mkdir(parents=True)
    (root / "cpuacct" / folder / "cpuacct.usage").write_text(f"{cpu}\n")
    (root / "memory" / folder / "memory.usage_in_bytes").write_text(f"{memory}\n")
    (root / "memory" / folder / "memory.stat").write_text("cache 5\ntotal_inactive_file 1000\n")


def v2(root: Path, folder: str) -> None:
    (root / folder).mkdir(parents=True)
    (root / "cgroup.controllers").write_text("cpu memory\n")
    (root / folder / "cpu.stat").write_text("usage_usec 7\nuser_usec 3\n")
    (root / folder / "memory.current").write_text("3000\n")
    (root / folder / "memory.stat").write_text("anon 5\ninactive_file 500\n")


def process(root: Path, pid: int, lines: str) -> None:
    (root / str(pid)).mkdir(parents=True)
    (root / str(pid) / "cgroup").write_text(lines)


def test_version_1_groups_are_found_through_the_process(tmp_path: Path) -> None:
    v1(tmp_path / "cg", f"lab/{ID}")
    process(tmp_path / "proc", 9, f"8:memory:/lab/{ID}\n2:cpu,cpuacct:/lab/{ID}\n0::/\n")
    cgroups = Cgroups(tmp_path / "cg", tmp_path / "proc")

    assert cgroups.measure({ID}, {ID: 9}) == {ID: ContainerUsage(5000, 2000)}
    assert ID in cgroups


def test_version_2_groups_are_found_through_the_process(tmp_path: Path) -> None:
    v2(tmp_path / "cg", f"system.slice/docker-{ID}.scope")
    process(tmp_path / "proc", 9, f"0::/system.slice/docker-{ID}.scope\n")
    cgroups = Cgroups(tmp_path / "cg", tmp_path / "proc")

    assert cgroups.measure({ID}, {ID: 9}) == {ID: ContainerUsage(7000, 2500)}


def test_a_process_number_of_another_namespace_is_not_believed(tmp_path: Path) -> None:
    """An engine in a process namespace of its own reports numbers that are others' here."""
    v1(tmp_path / "cg", f"docker/{ID}")
    v1(tmp_path / "cg", "user/somebody", cpu="1", memory="1")
    process(tmp_path / "proc", 9, "8:memory:/user/somebody\n2:cpuacct:/user/somebody\n")
    cgroups = Cgroups(tmp_path / "cg", tmp_path / "proc")

    assert cgroups.measure({ID}, {ID: 9}) == {ID: ContainerUsage(5000, 2000)}


def test_what_cannot_be_found_or_has_ended_is_left_out(tmp_path: Path) -> None:
    v1(tmp_path / "cg", f"docker/{ID}")
    gone = ContainerId("b" * 64)
    cgroups = Cgroups(tmp_path / "cg", tmp_path / "proc")
    assert set(cgroups.measure({ID, gone}, {ID: 1, gone: 2})) == {ID}

    (tmp_path / "cg" / "cpuacct" / "docker" / ID / "cpuacct.usage").unlink()
    (tmp_path / "cg" / "memory" / "docker" / ID / "memory.usage_in_bytes").unlink()

    assert cgroups.measure({ID}, {}) == {}
    assert ID not in cgroups


def test_groups_of_containers_that_nobody_asks_for_are_forgotten(tmp_path: Path) -> None:
    v1(tmp_path / "cg", f"docker/{ID}")
    cgroups = Cgroups(tmp_path / "cg", tmp_path / "proc")
    cgroups.measure({ID}, {ID: 1})

    assert cgroups.measure(set(), {}) == {}
    assert ID not in cgroups

"""What runs inside a container: image, process, mounts, health, limits."""

from enum import Enum

from cluster.model.base import Value


class PullPolicy(Enum):
    """When to ask the registry. With either, a local image is enough if the pull fails."""

    ALWAYS = "always"
    MISSING = "missing"
    NEVER = "never"


class Healthcheck(Value, frozen=True):
    """How Docker tells whether a container is well.

    Attributes:
        test: ("CMD", ...), ("CMD-SHELL", "...") or ("NONE",) to turn the image's own off;
            empty inherits the image's test.
        interval_seconds, timeout_seconds, start_period_seconds: 0 takes Docker's default.
        retries: failures in a row that make it unhealthy; 0 takes Docker's default.
    """

    test: tuple[str, ...] = ()
    interval_seconds: float = 0.0
    timeout_seconds: float = 0.0
    start_period_seconds: float = 0.0
    retries: int = 0


class MountKind(Enum):
    BIND = "bind"
    VOLUME = "volume"
    TMPFS = "tmpfs"


class Mount(Value, frozen=True):
    """Something seen inside the container at *target*.

    Attributes:
        source: host path of a bind; name of a volume, empty for an anonymous one.
        create_host_path: make a bind's missing source a directory; else that is an error.
        propagation: of a bind ("rprivate", ...); empty takes Docker's default.
        no_copy: do not fill an empty volume with what the image holds at *target*.
        driver, driver_options, labels: of a volume that is made for this mount.
        bound: the named volume lives on certain nodes (``NodeSpec.volumes``), and so must the task.
        tmpfs_size_bytes: 0 is unlimited.
        tmpfs_mode: permission bits; 0 takes Docker's default.
    """

    kind: MountKind
    target: str
    source: str = ""
    read_only: bool = False
    create_host_path: bool = False
    propagation: str = ""
    no_copy: bool = False
    driver: str = ""
    driver_options: dict[str, str] = {}
    labels: dict[str, str] = {}
    tmpfs_size_bytes: int = 0
    tmpfs_mode: int = 0
    bound: bool = False


class Ulimit(Value, frozen=True):
    """A resource limit of the process; -1 is unlimited."""

    name: str
    soft: int
    hard: int


class LogOptions(Value, frozen=True):
    """Docker's logging driver and its options; empty takes the daemon's default."""

    driver: str = ""
    options: dict[str, str] = {}


class ContainerSpec(Value, frozen=True):
    """What runs inside the container. Absent values (None, empty) take the image's or Docker's.

    Attributes:
        command: arguments to the entrypoint (Docker's Cmd); None takes the image's.
        entrypoint: None takes the image's; an empty tuple clears it.
        stop_grace_seconds: between the stop signal and SIGKILL.
        init: run a small init as PID 1; None takes the daemon's default.
        pids_limit: processes and threads at most; 0 is unlimited.
        shm_size_bytes: of /dev/shm; 0 takes Docker's default.
        extra_hosts: "name:address" lines for /etc/hosts.
    """

    image: str
    pull_policy: PullPolicy = PullPolicy.MISSING
    command: tuple[str, ...] | None = None
    entrypoint: tuple[str, ...] | None = None
    environment: dict[str, str] = {}
    user: str = ""
    working_dir: str = ""
    hostname: str = ""
    labels: dict[str, str] = {}
    mounts: tuple[Mount, ...] = ()
    healthcheck: Healthcheck | None = None
    ulimits: tuple[Ulimit, ...] = ()
    sysctls: dict[str, str] = {}
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    group_add: tuple[str, ...] = ()
    init: bool | None = None
    read_only: bool = False
    tty: bool = False
    stdin_open: bool = False
    stop_signal: str = ""
    stop_grace_seconds: float = 10.0
    pids_limit: int = 0
    shm_size_bytes: int = 0
    oom_score_adj: int = 0
    extra_hosts: tuple[str, ...] = ()
    dns: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    dns_options: tuple[str, ...] = ()
    log: LogOptions = LogOptions()

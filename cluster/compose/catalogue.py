"""Every key of the Compose Specification, and what becomes of it here.

One table for reading files and for ``docs/compose.md``: a key that is not in it is refused with
the nearest one that is, so nothing a user writes is dropped in silence. The rule for what is
not honoured yet: refused if a program could miss it (rights, isolation, data), ignored with a
warning if the services work without.

To honour a key, change its line here and read it (``service``, ``container``, ``deploy``).
"""

from enum import Enum

import msgspec


class Support(Enum):
    """What becomes of a key."""

    HONOURED = "honoured"
    IGNORED = "ignored with a warning"
    NEUTRAL = "accepted"  # tells people or other tools something, there is nothing to do
    REFUSED = "refused"


class Key(msgspec.Struct, frozen=True):
    """What becomes of a key.

    Attributes:
        note: why, or what to do instead; the end of the message a user sees.
        harmless: values that ask for nothing beyond what is so anyway: accepted in silence, as
            are an empty list or map.
    """

    support: Support
    note: str = ""
    harmless: frozenset[str] = frozenset()


class Section(msgspec.Struct, frozen=True):
    """The keys that stand in one place.

    Attributes:
        title: the place, such as ``services.<name>.deploy``.
        takes_extensions: ``x-...`` keys of others are passed over.
    """

    title: str
    keys: dict[str, Key]
    takes_extensions: bool = True


def _honoured(note: str = "") -> Key:
    return Key(Support.HONOURED, note)


def _ignored(note: str, *harmless: str) -> Key:
    return Key(Support.IGNORED, note, frozenset(harmless))


def _neutral(note: str = "") -> Key:
    return Key(Support.NEUTRAL, note)


def _refused(note: str, *harmless: str) -> Key:
    return Key(Support.REFUSED, note, frozenset(harmless))


# The one extension that is ours; whatever else begins with "x-" is somebody else's.
EXTENSION = "x-shoal"
_EXTENSIONS = "x-"

_WINDOWS = "it is for Windows hosts"
_NOT_YET = "there is nothing for it yet"
_TUNING = "the kernel's knob cannot be set yet; `deploy.resources` has limits and reservations"
_NAMESPACE = "a task cannot share a namespace with its host or with another task"

TOP = Section(
    "the file",
    {
        "configs": _refused("configs cannot be stored yet; use a bind mount or build it in"),
        "include": _honoured("an included file has its own folder and `.env`"),
        "models": _refused(_NOT_YET),
        "name": _honoured("the stack's name, unless the command line gives one"),
        "networks": _honoured(),
        "secrets": _refused("secrets cannot be stored yet"),
        "services": _honoured(),
        "version": _neutral("files need no version any more"),
        "volumes": _honoured(),
    },
)

SERVICE = Section(
    "services.<name>",
    {
        "annotations": _ignored("containers get no annotations yet; `labels` they do"),
        "attach": _neutral("logs are followed by `clusterctl service logs`"),
        "blkio_config": _refused(_TUNING),
        "build": _refused(
            "images are not built here: push one to a registry and name it in `image`"
        ),
        "cap_add": _honoured(),
        "cap_drop": _honoured(),
        "cgroup": _refused(_NAMESPACE, "private"),
        "cgroup_parent": _refused(_TUNING),
        "command": _honoured("a string is split as a shell would"),
        "configs": _refused("configs cannot be stored yet; use a bind mount or build it in"),
        "container_name": _ignored("each task's container gets a name of its own"),
        "cpu_count": _refused(_WINDOWS),
        "cpu_percent": _refused(_WINDOWS),
        "cpu_period": _refused(_TUNING),
        "cpu_quota": _refused(_TUNING),
        "cpu_rt_period": _refused(_TUNING),
        "cpu_rt_runtime": _refused(_TUNING),
        "cpu_shares": _refused(_TUNING),
        "cpus": _honoured("the same as `deploy.resources.limits.cpus`"),
        "cpuset": _refused(_TUNING),
        "credential_spec": _refused(_WINDOWS),
        "depends_on": _honoured("over all hosts; a list, or a map with conditions"),
        "deploy": _honoured(),
        "develop": _ignored("it is for `docker compose watch`"),
        "device_cgroup_rules": _refused("devices cannot be given to tasks yet"),
        "devices": _refused("devices cannot be given to tasks yet"),
        "dns": _honoured(),
        "dns_opt": _honoured(),
        "dns_search": _honoured(),
        "domainname": _refused(f"{_NOT_YET}; `hostname` may have dots"),
        "entrypoint": _honoured("a string is split as a shell would"),
        "env_file": _honoured("read where the file is deployed"),
        "environment": _honoured("a name without a value takes the client's"),
        "expose": _neutral("every port is open to the networks a service is on"),
        "extends": _honoured(),
        "external_links": _refused("join the other container's network instead"),
        "extra_hosts": _honoured(),
        "gpus": _refused("GPUs cannot be reserved yet"),
        "group_add": _honoured(),
        "healthcheck": _honoured(),
        "hostname": _honoured(),
        "image": _honoured(),
        "init": _honoured(),
        "ipc": _refused(_NAMESPACE, "private"),
        "isolation": _refused(_WINDOWS, "default"),
        "label_file": _refused(f"{_NOT_YET}; write them under `labels`"),
        "labels": _honoured("of each container; `deploy.labels` are the service's"),
        "links": _ignored("services of a stack find each other by name on their networks"),
        "logging": _honoured(),
        "mac_address": _refused("replicas cannot share one address"),
        "mem_limit": _honoured("the same as `deploy.resources.limits.memory`"),
        "mem_reservation": _honoured("the same as `deploy.resources.reservations.memory`"),
        "mem_swappiness": _refused(_TUNING),
        "memswap_limit": _refused(_TUNING),
        "models": _refused(_NOT_YET),
        "network_mode": _honoured("host, none or bridge"),
        "networks": _honoured("a bridge on each host for now: hosts do not reach each other on it"),
        "oom_kill_disable": _refused("a task without memory would hang instead of end", "false"),
        "oom_score_adj": _honoured(),
        "pid": _refused(_NAMESPACE),
        "pids_limit": _honoured("the same as `deploy.resources.limits.pids`"),
        "platform": _honoured("only nodes of that platform run the service"),
        "ports": _honoured("on the hosts which run a task: there is no routing mesh yet"),
        "post_start": _refused(f"{_NOT_YET}; start it from the container's own command"),
        "pre_stop": _refused(f"{_NOT_YET}; handle `stop_signal` in the container"),
        "privileged": _refused(
            "it gives the whole host away; name what is needed in `cap_add`", "false"
        ),
        "profiles": _honoured("of the variable COMPOSE_PROFILES"),
        "provider": _refused(_NOT_YET),
        "pull_policy": _honoured("always, missing, if_not_present or never"),
        "pull_refresh_after": _refused(f"{_NOT_YET}; `pull_policy: always` asks each time"),
        "read_only": _honoured(),
        "restart": _honoured("if there is no `deploy.restart_policy`"),
        "runtime": _refused("tasks run with the host's default runtime", "runc"),
        "scale": _honoured("the same as `deploy.replicas`"),
        "secrets": _refused("secrets cannot be stored yet"),
        "security_opt": _refused("security profiles cannot be chosen yet"),
        "shm_size": _honoured(),
        "stdin_open": _honoured(),
        "stop_grace_period": _honoured(),
        "stop_signal": _honoured(),
        "storage_opt": _refused(_NOT_YET),
        "sysctls": _honoured(),
        "tmpfs": _honoured("with the options size and mode"),
        "tty": _honoured(),
        "ulimits": _honoured(),
        "use_api_socket": _refused("tasks get no access to their host's Docker", "false"),
        "user": _honoured(),
        "userns_mode": _refused(_NAMESPACE),
        "uts": _refused(_NAMESPACE),
        "volumes": _honoured("a named volume is its host's own"),
        "volumes_from": _refused("tasks of two services may be on two hosts; use a named volume"),
        "working_dir": _honoured(),
        EXTENSION: _honoured("what the Compose format has no key for"),
    },
)

DEPLOY = Section(
    "services.<name>.deploy",
    {
        "endpoint_mode": _ignored("there are no virtual addresses yet", "dnsrr"),
        "labels": _honoured("of the service"),
        "mode": _honoured("replicated, global, replicated-job or global-job"),
        "placement": _honoured(),
        "replicas": _honoured("of a replicated-job: tasks that must complete"),
        "resources": _honoured(),
        "restart_policy": _honoured(),
        "rollback_config": _honoured(),
        "update_config": _honoured(),
    },
)

RESOURCES = Section(
    "services.<name>.deploy.resources", {"limits": _honoured(), "reservations": _honoured()}
)

LIMITS = Section(
    "services.<name>.deploy.resources.limits",
    {"cpus": _honoured(), "memory": _honoured(), "pids": _honoured()},
)

RESERVATIONS = Section(
    "services.<name>.deploy.resources.reservations",
    {
        "cpus": _honoured(),
        "devices": _refused("devices cannot be reserved yet"),
        "generic_resources": _honoured("what hosts offer beside cpus and memory, by kind"),
        "memory": _honoured(),
    },
)

RESTART_POLICY = Section(
    "services.<name>.deploy.restart_policy",
    {
        "condition": _honoured("none, on-failure or any (the default)"),
        "delay": _honoured(),
        "max_attempts": _honoured(),
        "window": _honoured(),
    },
)

PLACEMENT = Section(
    "services.<name>.deploy.placement",
    {
        "constraints": _honoured(),
        "max_replicas_per_node": _honoured(),
        "preferences": _honoured("each spreads within the values of the one before"),
    },
)

GENERIC = Section(
    "services.<name>.deploy.resources.reservations.generic_resources[]",
    {"discrete_resource_spec": _honoured("of named items too: how many")},
)

DISCRETE = Section(
    "services.<name>.deploy.resources.reservations.generic_resources[].discrete_resource_spec",
    {"kind": _honoured(), "value": _honoured("1 if absent")},
)

PREFERENCE = Section(
    "services.<name>.deploy.placement.preferences[]",
    {"spread": _honoured("node.labels.NAME or another key that nodes can share")},
)

OURS = Section(
    f"services.<name>.{EXTENSION}",
    {
        "affinity": _honoured("near a service of the stack: its name, or a map"),
        "anti_affinity": _honoured("apart from it; may be the service itself"),
        "autoscale": _honoured("scale itself between two numbers of replicas, by measured use"),
        "budget": _honoured(),
        "gang": _honoured("services of one name are placed all together or not at all"),
        "job": _honoured("how a job runs"),
        "lost_node": _honoured("replace, wait or fence; or a map that also says after how long"),
        "preempts": _honoured("lower priorities make way where there is no room"),
        "prefer": _honoured("constraints that need not hold: an expression, or a map"),
        "priority": _honoured("-1000 to 1000; the higher is placed first, 0 if absent"),
        "rollback": _honoured("what `rollback_config` has no key for"),
        "schedule": _honoured("when a job runs by itself: a cron line, or a map"),
        "stays": _honoured("never moved for the sake of a better layout"),
        "strategy": _honoured("binpack or spread; the cluster's if absent"),
        "tolerates": _honoured("what nodes may be reserved for and still run it"),
        "update": _honoured("what `update_config` has no key for"),
    },
    takes_extensions=False,
)

_DEADLINE = "how long a new task may come no further before it runs; 10m if absent, 0 is for ever"

OURS_OF_UPDATE = Section(
    f"services.<name>.{EXTENSION}.update",
    {
        "canary": _honoured("tasks replaced first; then it waits to be promoted"),
        "progress_deadline": _honoured(_DEADLINE),
        "promote_after": _honoured("how long the canary has to run to be promoted by itself"),
    },
    takes_extensions=False,
)

OURS_OF_ROLLBACK = Section(
    f"services.<name>.{EXTENSION}.rollback",
    {"progress_deadline": _honoured("likewise")},
    takes_extensions=False,
)

JOB = Section(
    f"services.<name>.{EXTENSION}.job",
    {
        "history": _honoured("runs remembered after their end; 10 if absent"),
        "max_concurrent": _honoured("tasks at a time; as many as must complete if absent"),
        "retries": _honoured("of each completion after failures; 3 if absent, -1: no limit"),
        "time_limit": _honoured("of a run, which fails then; none if absent"),
    },
    takes_extensions=False,
)

SCHEDULE = Section(
    f"services.<name>.{EXTENSION}.schedule",
    {
        "concurrency": _honoured("forbid (the default), allow or replace a run under way"),
        "cron": _honoured("minute, hour, day of the month, month, day of the week"),
        "late": _honoured("how much later a missed run is made up for; 1h if absent"),
        "suspended": _honoured("true: nothing becomes due"),
        "time_zone": _honoured("such as Europe/Vienna; UTC if absent"),
    },
    takes_extensions=False,
)

DEPENDENCY = Section(
    "services.<name>.depends_on.<service>",
    {
        "condition": _honoured(
            "service_started (the default), service_healthy or service_completed_successfully"
        ),
        "required": _honoured("false: it may be missing, or fail"),
        "restart": _honoured("restarted after an operator's change restarts the other one"),
    },
)

BUDGET = Section(
    f"services.<name>.{EXTENSION}.budget",
    {
        "max_unavailable": _honoured(
            "replicas that may be missing at a time; a quarter of them and at least one if absent"
        )
    },
    takes_extensions=False,
)

AUTOSCALE = Section(
    f"services.<name>.{EXTENSION}.autoscale",
    {
        "cpu": _honoured("percent of the CPU that a task reserves (or may use), on average"),
        "down_window": _honoured("it shrinks to the most called for during so long; 5m"),
        "max": _honoured("replicas at most"),
        "memory": _honoured("percent of the memory that a task reserves (or may use), on average"),
        "min": _honoured("replicas at least; 1 if absent"),
        "tolerance": _honoured("percent of the target that are near enough; 10"),
        "up_window": _honoured("it grows to the least called for during so long; 30s"),
    },
    takes_extensions=False,
)

LOST_NODE = Section(
    f"services.<name>.{EXTENSION}.lost_node",
    {
        "after": _honoured("wait: then it is replaced; fence: its lease, 30s if absent"),
        "policy": _honoured("replace, wait or fence"),
    },
    takes_extensions=False,
)

AFFINITY = Section(
    f"services.<name>.{EXTENSION}.affinity[]",
    {
        "external": _honoured("true: `service` is the full name of one of another stack"),
        "service": _honoured(),
        "topology": _honoured("what makes two nodes one place: node.id, or a label's key"),
        "weight": _honoured("1 to 100 makes it a wish; without it, it must hold"),
    },
    takes_extensions=False,
)

PREFERRED = Section(
    f"services.<name>.{EXTENSION}.prefer[]",
    {"constraint": _honoured(), "weight": _honoured("1 to 100; 50 if absent")},
    takes_extensions=False,
)

OURS_OF_VOLUME = Section(
    f"volumes.<name>.{EXTENSION}",
    {"bound": _honoured("it lives on the nodes that say so, and tasks go there")},
    takes_extensions=False,
)

UPDATE_CONFIG = Section(
    "services.<name>.deploy.update_config",
    {
        "delay": _honoured("between one batch and the next"),
        "failure_action": _honoured("pause, continue or rollback"),
        "max_failure_ratio": _honoured("share of the replicas that may fail, 0 to 1"),
        "monitor": _honoured("for how long after its start a failure counts; 5s if absent"),
        "order": _honoured("stop-first or start-first"),
        "parallelism": _honoured("tasks replaced at a time; 0 is all at once"),
    },
)

ROLLBACK_CONFIG = Section(
    "services.<name>.deploy.rollback_config",
    {
        "delay": _honoured("likewise"),
        "failure_action": _honoured("pause or continue"),
        "max_failure_ratio": _honoured("likewise"),
        "monitor": _honoured("likewise"),
        "order": _honoured("likewise"),
        "parallelism": _honoured("likewise"),
    },
)

HEALTHCHECK = Section(
    "services.<name>.healthcheck",
    {
        "disable": _honoured(),
        "interval": _honoured(),
        "retries": _honoured(),
        "start_interval": _ignored("`interval` counts from the start"),
        "start_period": _honoured(),
        "test": _honoured("a string is run by the container's shell"),
        "timeout": _honoured(),
    },
)

LOGGING = Section("services.<name>.logging", {"driver": _honoured(), "options": _honoured()})

ULIMIT = Section("services.<name>.ulimits.<limit>", {"hard": _honoured(), "soft": _honoured()})

ENV_FILE = Section(
    "services.<name>.env_file[]",
    {
        "format": _honoured("raw: values are taken as they stand"),
        "path": _honoured(),
        "required": _honoured(),
    },
)

PORT = Section(
    "services.<name>.ports[]",
    {
        "app_protocol": _neutral(),
        "host_ip": _honoured(),
        "mode": _honoured("host; ingress is taken as host, with a warning"),
        "name": _neutral(),
        "protocol": _honoured("tcp, udp or sctp"),
        "published": _honoured("without it Docker chooses a free port"),
        "target": _honoured(),
    },
)

MOUNT = Section(
    "services.<name>.volumes[]",
    {
        "bind": _honoured(),
        "consistency": _neutral("it is for Docker Desktop"),
        "image": _refused("images cannot be mounted yet"),
        "read_only": _honoured(),
        "source": _honoured("of a bind: a path on whichever host runs the task"),
        "target": _honoured(),
        "tmpfs": _honoured(),
        "type": _honoured("bind, volume or tmpfs"),
        "volume": _honoured(),
    },
)

MOUNT_BIND = Section(
    "services.<name>.volumes[].bind",
    {
        "create_host_path": _honoured("true is the default"),
        "propagation": _honoured(),
        "recursive": _refused(_NOT_YET, "enabled"),
        "selinux": _ignored("files are not relabelled for SELinux"),
    },
)

MOUNT_VOLUME = Section(
    "services.<name>.volumes[].volume",
    {
        "labels": _honoured("of a volume that is made for the mount"),
        "nocopy": _honoured(),
        "subpath": _refused("only whole volumes can be mounted yet"),
    },
)

MOUNT_TMPFS = Section(
    "services.<name>.volumes[].tmpfs",
    {"mode": _honoured("in octal, such as 01777"), "size": _honoured()},
)

ATTACHMENT = Section(
    "services.<name>.networks.<network>",
    {
        "aliases": _honoured(),
        "driver_opts": _refused(_NOT_YET),
        "gw_priority": _ignored("Docker chooses the network of the default route"),
        "interface_name": _refused(_NOT_YET),
        "ipv4_address": _refused("replicas cannot share one address"),
        "ipv6_address": _refused("replicas cannot share one address"),
        "link_local_ips": _refused("replicas cannot share one address"),
        "mac_address": _refused("replicas cannot share one address"),
        "priority": _ignored("networks are joined in the order of the file"),
    },
)

NETWORK = Section(
    "networks.<name>",
    {
        "attachable": _neutral("a bridge always is"),
        "driver": _honoured("bridge; overlay is taken as bridge, with a warning"),
        "driver_opts": _ignored("the network is an ordinary bridge on each host"),
        "enable_ipv4": _ignored("the network has IPv4", "true"),
        "enable_ipv6": _ignored("the network has IPv4 only", "false"),
        "external": _honoured("a network of another stack, by its name"),
        "internal": _ignored("the network leads outside", "false"),
        "ipam": _ignored("each host's Docker chooses the addresses"),
        "labels": _ignored("networks get no labels yet"),
        "name": _honoured(),
    },
)

VOLUME = Section(
    "volumes.<name>",
    {
        "driver": _honoured(),
        "driver_opts": _honoured(),
        "external": _honoured("used by its name; a host that lacks it makes an empty one"),
        "labels": _honoured(),
        "name": _honoured(),
        EXTENSION: _honoured("what the Compose format has no key for"),
    },
)

EXTENDS = Section(
    "services.<name>.extends",
    {"file": _honoured("the same file if absent"), "service": _honoured()},
    takes_extensions=False,
)

INCLUDE = Section(
    "include[]",
    {
        "env_file": _honoured("`.env` in its folder if absent"),
        "path": _honoured("several are merged"),
        "project_directory": _honoured("the folder of the first path if absent"),
    },
    takes_extensions=False,
)

SECTIONS = (
    *(TOP, INCLUDE, SERVICE, EXTENDS, DEPENDENCY, ENV_FILE, HEALTHCHECK, LOGGING, ULIMIT),
    *(PORT, MOUNT, MOUNT_BIND, MOUNT_VOLUME, MOUNT_TMPFS, ATTACHMENT),
    *(DEPLOY, RESOURCES, LIMITS, RESERVATIONS, GENERIC, DISCRETE),
    *(RESTART_POLICY, PLACEMENT, PREFERENCE, UPDATE_CONFIG, ROLLBACK_CONFIG),
    *(OURS, OURS_OF_UPDATE, OURS_OF_ROLLBACK, AUTOSCALE, JOB, SCHEDULE, BUDGET, LOST_NODE),
    *(AFFINITY, PREFERRED),
    *(NETWORK, VOLUME, OURS_OF_VOLUME),
)


def is_of_others(name: str) -> bool:
    """Tell whether a key is an extension that nobody means us by."""
    return name.startswith(_EXTENSIONS) and name != EXTENSION


def as_markdown() -> str:
    """Return the tables of ``docs/compose.md``."""
    parts = []
    for section in SECTIONS:
        rows = [
            f"| `{name}` | {key.support.value} | {_note(key)} |"
            for name, key in section.keys.items()
        ]
        head = ["| key | what becomes of it | |", "|---|---|---|"]
        title = section.title if section is TOP else f"`{section.title}`"
        parts.append("\n".join([f"### {title}", "", *head, *rows]))
    return "\n\n".join(parts) + "\n"


def _note(key: Key) -> str:
    fine = " or ".join(f"`{value}`" for value in sorted(key.harmless))
    parts = [key.note, f"{fine} is fine" if fine else ""]
    return "; ".join(part for part in parts if part)

"""Names that the Linux kernel gives to what a container may be granted or limited in.

Each ``*_flaw`` returns what is wrong with a name as a user wrote it, with the nearest right one,
or the empty string. Docker or the kernel would refuse the same names, but only on the host and
only once a task is there.
"""

import re
import signal

from cluster.errors import did_you_mean

ULIMITS = frozenset(
    {
        *("core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile"),
        *("nproc", "rss", "rtprio", "rttime", "sigpending", "stack"),
    }
)
CAPABILITIES = frozenset(
    {
        *("ALL", "AUDIT_CONTROL", "AUDIT_READ", "AUDIT_WRITE", "BLOCK_SUSPEND", "BPF"),
        *("CHECKPOINT_RESTORE", "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID"),
        *("IPC_LOCK", "IPC_OWNER", "KILL", "LEASE", "LINUX_IMMUTABLE", "MAC_ADMIN"),
        *("MAC_OVERRIDE", "MKNOD", "NET_ADMIN", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_RAW"),
        *("PERFMON", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYSLOG", "SYS_ADMIN", "SYS_BOOT"),
        *("SYS_CHROOT", "SYS_MODULE", "SYS_NICE", "SYS_PACCT", "SYS_PTRACE", "SYS_RAWIO"),
        *("SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "WAKE_ALARM"),
    }
)
# The parameters that a container has of its own; any other would be the whole host's.
SYSCTLS = frozenset(
    {
        *("kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall"),
        *("kernel.shmmax", "kernel.shmmni", "kernel.shm_rmid_forced"),
    }
)
NETWORK_SYSCTLS = "net."
QUEUE_SYSCTLS = "fs.mqueue."

_SIGNALS = frozenset(signal.Signals.__members__)
_REALTIME_SIGNAL = re.compile(r"RTMIN(\+[0-9]{1,2})?|RTMAX(-[0-9]{1,2})?")
_SIGNAL_NUMBER = re.compile(r"[1-9][0-9]?")


def capability(name: str) -> str:
    """Return a capability's name without its optional prefix, in capitals."""
    return name.upper().removeprefix("CAP_")


def capability_flaw(name: str) -> str:
    if capability(name) in CAPABILITIES:
        return ""
    near = did_you_mean(capability(name), sorted(CAPABILITIES))
    return f"{name!r} is no capability;{near or ' `man capabilities` lists them'}"


def ulimit_flaw(name: str) -> str:
    if name in ULIMITS:
        return ""
    near = did_you_mean(name, sorted(ULIMITS))
    return f"{name!r} is no resource limit;{near or ' there are ' + ', '.join(sorted(ULIMITS))}"


def sysctl_flaw(name: str, *, on_host_network: bool) -> str:
    if name.startswith(NETWORK_SYSCTLS):
        return f"{name} cannot be set on the host's own network" if on_host_network else ""
    if name in SYSCTLS or name.startswith(QUEUE_SYSCTLS):
        return ""
    near = did_you_mean(name, sorted(SYSCTLS))
    return (
        f"{name} is the whole host's; a container has only {NETWORK_SYSCTLS}*, {QUEUE_SYSCTLS}* "
        f"and the IPC parameters of its own{near and ';' + near}"
    )


def signal_flaw(name: str) -> str:
    short = name.upper().removeprefix("SIG")
    if _REALTIME_SIGNAL.fullmatch(short) or f"SIG{short}" in _SIGNALS:
        return ""
    if _SIGNAL_NUMBER.fullmatch(name) and int(name) < signal.NSIG:
        return ""
    near = did_you_mean(f"SIG{short}", sorted(_SIGNALS))
    return f"{name!r} is no signal;{near or ' write one such as SIGTERM'}"

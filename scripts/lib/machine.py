"""What the machine must have, and how Debian's or Ubuntu's packages provide it.

A thing is missing when its command is; so a tool that came from elsewhere is as good, and
nothing is asked of the package manager while nothing is missing.
"""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from scripts.lib.image import is_static
from scripts.lib.steps import ScriptError, run_quietly

SEARCH_PATH = os.pathsep.join(
    [os.environ.get("PATH", os.defpath), "/usr/local/sbin:/usr/sbin:/sbin"]
)

APT_LOCK_WAIT_SECONDS = 120
"""A fresh cloud machine updates itself for a minute or two after its first boot."""

APT_RETRIES = 3
"""A mirror that drops a connection now and then is common; one that is down stays down."""

POLICY_FILE = Path("/usr/sbin/policy-rc.d")


@dataclass(frozen=True, slots=True)
class Tool:
    """A command, and the packages that may provide it: the first that the archive knows."""

    command: str
    packages: tuple[str, ...]


TO_RUN_TASKS = (
    Tool("dockerd", ("docker.io",)),
    Tool("docker", ("docker-cli", "docker.io")),  # a package of its own since Debian 13
    Tool("iptables", ("iptables",)),
)

TO_RUN = (
    *TO_RUN_TASKS,
    Tool("etcd", ("etcd-server",)),
    Tool("etcdctl", ("etcd-client",)),
    Tool("busybox", ("busybox-static",)),
    Tool("ip", ("iproute2",)),
    Tool("ps", ("procps",)),
)

TO_TEST = (
    *TO_RUN,
    Tool("nft", ("nftables",)),
    Tool("conntrack", ("conntrack",)),
    Tool("ping", ("iputils-ping",)),
    Tool("curl", ("curl",)),
    Tool("tini", ("tini",)),
    Tool("faketime", ("faketime",)),
    Tool("mkfs.ext4", ("e2fsprogs",)),
    Tool("make", ("make",)),
    Tool("systemd-analyze", ("systemd",)),
)


def which(command: str) -> str | None:
    """Return the path of *command*, looking where a root's login shell would."""
    return shutil.which(command, path=SEARCH_PATH)


def runs_systemd() -> bool:
    """Tell whether systemd is this machine's init, the test that sd_booted(3) makes."""
    return Path("/run/systemd/system").is_dir()


def missing(tools: Sequence[Tool]) -> list[Tool]:
    """Return those of *tools* that the machine lacks. A busybox that is not static counts not."""
    lacking = []
    for tool in tools:
        path = which(tool.command)
        if path is None or (tool.command == "busybox" and not is_static(Path(path))):
            lacking.append(tool)
    return lacking


def install(tools: Sequence[Tool]) -> list[str]:
    """Install what provides *tools* and return the names of the packages.

    Raises:
        ScriptError: not root, no apt-get, or the archive would not; it names the packages.
    """
    if not tools:
        return []
    packages = install_packages([tool.packages for tool in tools])
    if still := missing(tools):
        raise ScriptError(
            f"{', '.join(packages)} installed, but these commands are still missing:"
            f" {', '.join(tool.command for tool in still)}"
        )
    return packages


def install_packages(choices: Sequence[Sequence[str]]) -> list[str]:
    """Install of each choice the first package that the archive knows; return their names.

    Raises:
        ScriptError: not root, no apt-get, or the archive would not; it names the packages.
    """
    usual = " ".join(sorted({packages[-1] for packages in choices}))
    if which("apt-get") is None:
        raise ScriptError(f"there is no apt-get here; install by hand what Debian calls: {usual}")
    if os.geteuid() != 0:
        raise ScriptError(f"packages are missing; run as root: apt-get install {usual}")
    _apt_get("update")
    packages = sorted({_first_known(choice) for choice in choices})
    with _services_held_back():
        _apt_get("install", "--yes", "--no-install-recommends", *packages)
    if "etcd-server" in packages and which("systemctl"):
        # The package's own etcd would hold the standard ports; ours is started by whoever uses it.
        now = ["--now"] if runs_systemd() else []
        run_quietly(["systemctl", "disable", *now, "etcd.service"])
    return packages


def _first_known(packages: Sequence[str]) -> str:
    for package in packages[:-1]:
        if package in run_quietly(["apt-cache", "pkgnames", package]).split():
            return package
    return packages[-1]


def _apt_get(*arguments: str) -> None:
    options = {"DPkg::Lock::Timeout": APT_LOCK_WAIT_SECONDS, "Acquire::Retries": APT_RETRIES}
    argv = ["apt-get", "--quiet"]
    for name, value in options.items():
        argv += ["-o", f"{name}={value}"]
    run_quietly([*argv, *arguments], {**os.environ, "DEBIAN_FRONTEND": "noninteractive"})


@contextmanager
def _services_held_back() -> Iterator[None]:
    """Keep packages from starting services for the time of an installation.

    Without a running systemd a start only fails, and with it etcd's would start a store that
    nobody asked for; Docker's may start. A policy that stands already is left alone.
    """
    if POLICY_FILE.exists():
        yield
        return
    allowed = "docker*|containerd*) exit 0;;" if runs_systemd() else ""
    POLICY_FILE.write_text(f'#!/bin/sh\ncase "$1" in\n{allowed}\nesac\nexit 101\n')
    POLICY_FILE.chmod(0o755)
    try:
        yield
    finally:
        POLICY_FILE.unlink(missing_ok=True)

"""What the daemon's refusals mean for a task, in words for users. Pure.

Docker answers a start that can never work with 400, 404, 409 or 500 alike, so the text
decides. To add a case, add a line to ``_CAUSES``.
"""

import re

from agent.runtime.interface import CannotRunError, ImageMissingError, NetworkMissingError
from cluster.errors import ClusterError

_CAUSES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), message)
    for pattern, message in (
        (
            r"Bind for (?P<port>\S+) failed: port is already allocated",
            "port {port} of this host is taken by another container",
        ),
        (
            r"listen (?:tcp|udp|sctp)\d? (?P<port>\S+): bind: address already in use",
            "port {port} of this host is taken by another process",
        ),
        (
            r"listen (?:tcp|udp|sctp)\d? (?P<port>\S+): bind: cannot assign requested address",
            "this host has no such address to publish {port} on",
        ),
        (
            r"bind source path does not exist: (?P<path>\S+)",
            "bind mount: {path} does not exist on this host; create it or set create_host_path",
        ),
        (
            r'exec: "(?P<word>[^"]*)": (?P<why>.*?)(?:: unknown)?$',
            "cannot execute '{word}': {why}",
        ),
        (
            r"chdir to cwd \(\"(?P<path>[^\"]*)\"\).*?failed: (?P<why>.*?)(?:: unknown)?$",
            "cannot enter the working directory '{path}': {why}",
        ),
        (
            r"unable to find user (?P<user>[^:]+): no matching entries in passwd file",
            "the image has no user '{user}'",
        ),
        (
            r"could not find an available, non-overlapping IPv4 address pool",
            "Docker has no address range left for another network; widen its address pools",
        ),
        (
            r"(?P<why>OCI runtime create failed: .*?)(?:: unknown)?$",
            "{why}",
        ),
        (
            r"(?P<why>(?:error while mounting volume|failed to mount|invalid mount config).*)$",
            "{why}",
        ),
        (
            r"(?P<why>(?:error looking up \w+ plugin|failed to initialize logging driver).*)$",
            "{why}",
        ),
    )
)
_IMAGE_MISSING = re.compile(r"[Nn]o such image: (\S+)")
_NETWORK_MISSING = re.compile(r"network (\S+) not found|[Nn]o such network: (\S+)")


def known_cause(text: str) -> CannotRunError | None:
    """Return why the task can never run here, if *text* tells that."""
    if match := _IMAGE_MISSING.search(text):
        return ImageMissingError(f"image '{match[1]}' is not on this host")
    if match := _NETWORK_MISSING.search(text):
        return NetworkMissingError(f"network '{match[1] or match[2]}' is not on this host")
    for pattern, message in _CAUSES:
        if match := pattern.search(text):
            return CannotRunError(message.format(**match.groupdict()))
    return None


def refused(text: str) -> CannotRunError:
    """Return the error for a request that the daemon refused as wrong (HTTP 4xx)."""
    return known_cause(text) or CannotRunError(f"Docker refuses: {text}")


def failed(error: ClusterError) -> ClusterError:
    """Return what a failure (HTTP 5xx) really is: hopeless if the text says so, else itself."""
    return known_cause(str(error)) or error


def no_image(image: str, why: str) -> CannotRunError:
    return CannotRunError(
        f"image '{image}' cannot be had: {why}; check its name, or load it on the host"
    )

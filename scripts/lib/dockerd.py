"""A Docker daemon of our own, for machines whose service manager can't start one."""

import http.client
import socket
from pathlib import Path

ANSWER_SECONDS = 2.0
"""A daemon answers a ping within milliseconds, or is still starting, or hangs."""


def answers(path: Path) -> bool:
    """Tell whether a Docker daemon answers at the socket *path*."""
    connection = http.client.HTTPConnection("docker", timeout=ANSWER_SECONDS)
    connection.sock = socket.socket(socket.AF_UNIX)
    try:
        connection.sock.settimeout(ANSWER_SECONDS)
        connection.sock.connect(str(path))
        connection.request("GET", "/_ping")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()

"""What a service tells its service manager, by the sd_notify protocol.

One datagram of ``KEY=value`` lines to the socket named in ``NOTIFY_SOCKET``. Without that
variable nobody listens and nothing is sent.
"""

import contextlib
import os
import socket

READY = "READY=1"
STOPPING = "STOPPING=1"


def notify(*lines: str) -> None:
    """Tell the service manager; never fails, for it is only told.

    Args:
        lines: ``READY``, ``STOPPING``, ``"STATUS=waits for etcd"``.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):  # Linux's abstract namespace
        address = "\0" + address[1:]
    with (
        contextlib.suppress(OSError),
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel,
    ):
        channel.sendto("\n".join(lines).encode(), address)

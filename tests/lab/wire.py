"""A long cable: frames between a host's port and the switch's bridge, each some time later.

The kernel here has no netem, so the wire is a program in the switch's network namespace. It
takes the port off the bridge and puts a TAP device in its place; what comes in at one end goes
out at the other once its time is over, and not at all if chance says that it is lost.

    python -m tests.lab.wire PORT TAP BRIDGE OUT_SECONDS IN_SECONDS JITTER_SECONDS LOSS SEED

Both ends hand over frames with the header that tells what the network card would have done to
them (checksums, cutting to size), as they do for virtual machines: so no frame is damaged, and
no host needs its offloading turned off. It ends on SIGTERM, and puts the port back.
"""

import contextlib
import fcntl
import heapq
import os
import random
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from typing import Protocol

# linux/if_tun.h and linux/if_packet.h; Python's socket module does not have these.
TUNSETIFF = 0x400454CA
TUNSETVNETHDRSZ = 0x400454D8
TUNSETOFFLOAD = 0x400454D0
IFF_TAP, IFF_NO_PI, IFF_VNET_HDR = 0x0002, 0x1000, 0x4000
TUN_F_CSUM, TUN_F_TSO4, TUN_F_TSO6 = 0x01, 0x02, 0x04
SOL_PACKET = 263
PACKET_VNET_HDR, PACKET_IGNORE_OUTGOING = 15, 23
ETH_P_ALL = 0x0003

HEADER_BYTES = 10  # struct virtio_net_hdr
FRAME_BYTES_MAX = HEADER_BYTES + 18 + 65_535
FRAMES_TOGETHER_MAX = 64  # before looking again what is due
IDLE_SECONDS = 1.0


class End(Protocol):
    def read(self) -> bytes:
        """Return a frame with its header.

        Raises:
            BlockingIOError: there is none.
        """

    def write(self, frame: bytes) -> None: ...

    def fileno(self) -> int: ...


class Tap:
    """The bridge's side: a device of ours, with which whatever we write comes in there."""

    def __init__(self, name: str) -> None:
        self._file = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR
        fcntl.ioctl(self._file, TUNSETIFF, struct.pack("16sH22x", name.encode(), flags))
        fcntl.ioctl(self._file, TUNSETVNETHDRSZ, struct.pack("i", HEADER_BYTES))
        fcntl.ioctl(self._file, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6)

    def read(self) -> bytes:
        return os.read(self._file, FRAME_BYTES_MAX)

    def write(self, frame: bytes) -> None:
        os.write(self._file, frame)

    def fileno(self) -> int:
        return self._file


class Port:
    """The host's side: the switch's end of its cable."""

    def __init__(self, name: str) -> None:
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        self._socket.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
        self._socket.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
        self._socket.bind((name, 0))
        self._socket.setblocking(False)

    def read(self) -> bytes:
        return self._socket.recv(FRAME_BYTES_MAX)

    def write(self, frame: bytes) -> None:
        self._socket.send(frame)

    def fileno(self) -> int:
        return self._socket.fileno()


def carry(
    ends: tuple[End, End],
    delays: tuple[float, float],
    jitter: float,
    loss: float,
    chance: random.Random,
) -> None:
    """Carry frames both ways until the process is told to end; *delays* are of what each reads."""
    way = {ends[0]: (ends[1], delays[0]), ends[1]: (ends[0], delays[1])}
    under_way: list[tuple[float, int, End, bytes]] = []
    number = 0
    while True:
        wait = max(0.0, under_way[0][0] - time.monotonic()) if under_way else IDLE_SECONDS
        ready, _, _ = select.select(ends, [], [], wait)
        for end in ready:
            other, delay = way[end]
            with contextlib.suppress(BlockingIOError):
                for _ in range(FRAMES_TOGETHER_MAX):
                    frame = end.read()
                    if chance.random() >= loss:
                        number += 1
                        due = time.monotonic() + delay + chance.random() * jitter
                        heapq.heappush(under_way, (due, number, other, frame))
        while under_way and under_way[0][0] <= time.monotonic():
            _, _, end, frame = heapq.heappop(under_way)
            with contextlib.suppress(OSError):  # a full queue, or a host that is just going down
                end.write(frame)


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


def end(_: int, __: object) -> None:
    raise SystemExit


def main() -> None:
    port, tap, bridge, outward, inward, jitter, loss, seed = sys.argv[1:]
    signal.signal(signal.SIGTERM, end)
    inner = Tap(tap)
    try:
        ip("link", "set", port, "nomaster")
        ip("link", "set", tap, "master", bridge, "up")
        ends = (Port(port), inner)
        sys.stdout.write("the wire is up\n")
        sys.stdout.flush()
        delays = (float(outward), float(inward))
        carry(ends, delays, float(jitter), float(loss), random.Random(int(seed)))
    finally:
        ip("link", "set", port, "master", bridge)


if __name__ == "__main__":
    main()

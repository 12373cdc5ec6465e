"""The network that the hosts hang on: one bridge, in a network namespace of its own.

Being in its own namespace, it is beyond the machine's firewall, and two labs may use the
same addresses at once. 198.18.0.0/15 is reserved for tests of network gear (RFC 2544), so
it collides with no real network either.
"""

import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import psutil

from scripts.lib.steps import TREE

CLIENT_ADDRESS = "198.18.0.1"
"""Of the switch itself: where a test's own requests come from."""

BRIDGE = "lab0"

WIRE_SECONDS = 10.0
"""A wire ends within milliseconds, and puts the port back by a command of its own."""

# A base chain on the bridge's forwarding path: every frame between two hosts passes it.
# "cut" holds ordered pairs of ports, so that a link may fail in one direction alone; ARP is let
# through, or the other direction would fail too, once neighbour entries age.
FIREWALL = """
table bridge lab {
    set cut { type ifname . ifname; }
    chain between_hosts {
        type filter hook forward priority 0; policy accept;
        ether type { ip, ip6 } iifname . oifname @cut drop
    }
}
"""


def run_in(pid: int, argv: Sequence[str], stdin: str | None = None) -> str:
    """Run a command in the network namespace of process *pid*, and return what it printed.

    Raises:
        RuntimeError: it failed; carries what it complained of.
    """
    done = subprocess.run(
        ["nsenter", f"--net=/proc/{pid}/ns/net", *argv],
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(argv)}: {done.stderr}{done.stdout}\n{stdin or ''}")
    return done.stdout


def ip_batch(pid: int, commands: Iterable[str]) -> None:
    """Run several ``ip`` commands in one go, in the network namespace of *pid*."""
    run_in(pid, ["ip", "-batch", "-"], "\n".join(commands) + "\n")


@dataclass(frozen=True, slots=True)
class LongCable:
    """How frames travel between a host and the switch.

    Attributes:
        outward_seconds, inward_seconds: what each takes at least, from the host and to it.
        jitter_seconds: and up to so much more; so frames may overtake each other.
        loss: the share of frames that never arrive.
        seed: of what chance decides.
    """

    outward_seconds: float = 0.0
    inward_seconds: float = 0.0
    jitter_seconds: float = 0.0
    loss: float = 0.0
    seed: int = 1


class Switch:
    """The bridge in the network namespace of the lab's keeper."""

    def __init__(self, keeper_pid: int) -> None:
        self.pid = keeper_pid
        self._wires: dict[str, subprocess.Popen[str]] = {}
        ip_batch(
            self.pid,
            [
                "link set lo up",
                f"link add {BRIDGE} type bridge",
                f"address add {CLIENT_ADDRESS}/24 dev {BRIDGE}",
                f"link set {BRIDGE} up",
            ],
        )
        run_in(self.pid, ["nft", "-f", "-"], FIREWALL)

    def plug_in(self, name: str, address: str, mac: str, host_pid: int) -> None:
        """Give the host whose PID 1 is *host_pid* an ``eth0`` on the switch.

        The hardware address is fixed: with a new one after each boot, the others would send
        to the old until their neighbour tables age.
        """
        ip_batch(
            self.pid,
            [
                f"link add {_port(name)} type veth peer name eth0 address {mac} netns {host_pid}",
                f"link set {_port(name)} master {BRIDGE} up",
            ],
        )
        ip_batch(host_pid, [f"address add {address}/24 dev eth0", "link set eth0 up"])

    def unplug(self, name: str) -> None:
        """Remove the host's port, unless the kernel has: it does that too, in its own time."""
        try:
            ip_batch(self.pid, [f"link delete {_port(name)}"])
        except RuntimeError:
            if self._has(name):
                raise

    def set_link(self, name: str, *, up: bool) -> None:
        """Pull the host's cable, or put it back."""
        ip_batch(self.pid, [f"link set {_port(name)} {'up' if up else 'down'}"])

    def set_cut(self, source: str, target: str, *, cut: bool) -> None:
        """Drop all that *source* sends to *target*, or let it pass again. Not the way back."""
        verb = "add" if cut else "delete"
        pair = f'"{_port(source)}" . "{_port(target)}"'
        run_in(self.pid, ["nft", "-f", "-"], f"{verb} element bridge lab cut {{ {pair} }}\n")

    def clear_cuts(self) -> None:
        """Let everything pass."""
        run_in(self.pid, ["nft", "flush", "set", "bridge", "lab", "cut"])

    def lengthen(self, name: str, cable: LongCable) -> None:
        """Give the host a long cable.

        Raises:
            RuntimeError: the wire did not come up.
        """
        port = _port(name)
        wire = subprocess.Popen(
            [
                *("nsenter", f"--target={self.pid}", "--net", "--pid"),
                *(sys.executable, "-m", "tests.lab.wire", port, f"long-{name}", BRIDGE),
                *(f"{cable.outward_seconds}", f"{cable.inward_seconds}"),
                *(f"{cable.jitter_seconds}", f"{cable.loss}", f"{cable.seed}"),
            ],
            cwd=TREE,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._wires[name] = wire
        assert wire.stdout is not None
        if not wire.stdout.readline():
            raise RuntimeError(f"the long cable of {name} did not come up: {wire.wait()}")

    def shorten(self, name: str) -> None:
        """Give the host its short cable back, if it has a long one."""
        if (wire := self._wires.pop(name, None)) is not None:
            # nsenter itself passes no signal on; the program is its only child.
            for child in psutil.Process(wire.pid).children():
                child.terminate()
            wire.wait(WIRE_SECONDS)
            assert wire.stdout is not None
            wire.stdout.close()

    def forget_processes(self) -> None:
        """Take note that the lab's keeper has ended, and with it every wire."""
        for wire in self._wires.values():
            wire.wait(WIRE_SECONDS)
            assert wire.stdout is not None
            wire.stdout.close()
        self._wires.clear()

    def _has(self, name: str) -> bool:
        links = run_in(self.pid, ["ip", "-brief", "link", "show", "type", "veth"])
        return any(line.split("@")[0] == _port(name) for line in links.splitlines())


def _port(host_name: str) -> str:
    return f"port-{host_name}"

"""The network that the hosts hang on: one bridge, in a network namespace of its own.

Being in its own namespace, it is beyond the machine's firewall, and two labs may use the
same addresses at once. 198.18.0.0/15 is reserved for tests of network gear (RFC 2544), so
it collides with no real network either.
"""

import subprocess
from collections.abc import Iterable, Sequence

CLIENT_ADDRESS = "198.18.0.1"
"""Of the switch itself: where a test's own requests come from."""

BRIDGE = "lab0"

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


class Switch:
    """The bridge in the network namespace of the lab's keeper."""

    def __init__(self, keeper_pid: int) -> None:
        self.pid = keeper_pid
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

    def _has(self, name: str) -> bool:
        links = run_in(self.pid, ["ip", "-brief", "link", "show", "type", "veth"])
        return any(line.split("@")[0] == _port(name) for line in links.splitlines())


def _port(host_name: str) -> str:
    return f"port-{host_name}"

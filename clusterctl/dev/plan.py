"""What a development cluster consists of: its folder, its ports, and its command lines. Pure.

One etcd, one manager, and agents that share this machine's Docker and divide its CPUs and
memory among them.
"""

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import cluster
from cluster.errors import InvalidError
from cluster.quantities import format_cpus
from cluster.resources import NANOS_PER_CPU
from clusterctl.dev.processes import Daemon

PORT = 7420
ETCD_PORT = 23790
AGENTS = 3
AGENTS_MAX = 100  # each is a process of some 60 MB
HOST = "127.0.0.1"

FILE = "cluster.json"
NODE = "node"
_OURS = ("SHOAL_MANAGER_", "SHOAL_AGENT_", "ETCD_")  # settings of other clusters


@dataclass(frozen=True, slots=True)
class Plan:
    """A development cluster, as its file remembers it.

    Attributes:
        port: of the manager; the others are etcd's.
        docker: the Docker daemon's address.
        cpu_nanos, memory_bytes: of each agent.
        cluster_id: empty until the manager has told it.
    """

    folder: str
    port: int
    etcd_port: int
    etcd_peer_port: int
    agents: int
    docker: str
    cpu_nanos: int
    memory_bytes: int
    cluster_id: str = ""

    @property
    def endpoint(self) -> str:
        return f"{HOST}:{self.port}"

    @property
    def etcd_url(self) -> str:
        return f"http://{HOST}:{self.etcd_port}"

    @property
    def nodes(self) -> list[str]:
        return [f"{NODE}{number}" for number in range(1, self.agents + 1)]

    @property
    def daemons(self) -> dict[str, Daemon]:
        """The processes by name, in the order in which they are started."""
        folder = Path(self.folder, "run")
        return {name: Daemon(name, folder) for name in ("etcd", "manager", *self.nodes)}

    def arguments(self, name: str, etcd: str) -> list[str]:
        """Return the command line of a process; *etcd* is the path of that program."""
        if name == "etcd":
            peer = f"http://{HOST}:{self.etcd_peer_port}"
            return [
                *(etcd, "--name", "dev", "--data-dir", str(Path(self.folder, "etcd"))),
                *("--listen-client-urls", self.etcd_url, "--advertise-client-urls", self.etcd_url),
                *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
                *("--initial-cluster", f"dev={peer}", "--initial-cluster-state", "new"),
                *("--max-txn-ops", "1024", "--logger", "zap", "--log-level", "warn"),
                *("--auto-compaction-mode", "periodic", "--auto-compaction-retention", "1h"),
            ]
        if name == "manager":
            return [
                *(sys.executable, "-m", "manager"),
                *("--listen", self.endpoint, "--advertise", self.endpoint),
                *("--etcd", f"{HOST}:{self.etcd_port}"),
            ]
        return [
            *(sys.executable, "-m", "agent", "--managers", self.endpoint),
            *("--hostname", name, "--address", HOST, "--docker", self.docker),
            *("--state-dir", str(Path(self.folder, name))),
            *("--cpus", format_cpus(self.cpu_nanos), "--memory", str(self.memory_bytes)),
        ]

    def save(self) -> None:
        path = Path(self.folder, FILE)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = path.with_suffix(".new")
        draft.write_text(json.dumps(asdict(self), indent=2) + "\n")
        draft.replace(path)


def load(folder: Path) -> Plan | None:
    """Return the plan of the cluster in *folder*; None if there is none.

    Raises:
        InvalidError: its file does not hold one.
    """
    path = folder / FILE
    try:
        return Plan(**json.loads(path.read_text()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise InvalidError(f"{path} does not describe a cluster: {error}") from error


def share(cpus: int, memory_bytes: int, agents: int) -> tuple[int, int]:
    """Return billionths of a CPU and bytes for each of the agents."""
    return cpus * NANOS_PER_CPU // agents, memory_bytes // agents


def environment(own: Mapping[str, str]) -> dict[str, str]:
    """Return the processes' environment: this code on the path, nobody's settings in it."""
    kept = {name: value for name, value in own.items() if not name.startswith(_OURS)}
    code = str(Path(cluster.__file__).resolve().parents[1])
    path = kept.get("PYTHONPATH", "")
    return {**kept, "PYTHONPATH": f"{code}:{path}" if path else code, "PYTHONUNBUFFERED": "1"}


def leftovers(folder: Path) -> list[Path]:
    """Return what a development cluster has put into its folder, and nothing else."""
    return [folder / name for name in ("etcd", "run", FILE)] + sorted(
        path for path in folder.glob(f"{NODE}[0-9]*") if path.is_dir()
    )

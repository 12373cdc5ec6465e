"""What an agent can be told, by file, environment or flag (see ``cluster.settings``)."""

import msgspec

from cluster import generic
from cluster.errors import InvalidError
from cluster.quantities import parse_bytes, parse_cpus
from cluster.resources import Resources


class AgentSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Run this host's share of a cluster's tasks through the local Docker daemon.

    Attributes:
        managers: addresses of managers, host:port; one that answers is enough to learn of all
        state_dir: where the node's identity is kept
        docker: address of the Docker daemon
        hostname: the node's name to people; empty takes the host's own
        address: where other hosts reach this one; empty finds out
        labels: labels that a new node begins with
        cpus: CPUs that tasks may reserve, such as 3.5; empty offers all
        memory: memory that tasks may reserve, such as 6GiB; empty offers all
        generic_resources: what else tasks may reserve, kind=count or kind=name,name
        tls_ca: PEM file of the authority that we trust
        tls_cert: PEM file of this node's certificate
        tls_key: PEM file of this node's key
        log_level: debug, info, warning or error
        log_json: write the log as JSON
    """

    managers: tuple[str, ...] = ("127.0.0.1:7420",)
    state_dir: str = "/var/lib/shoal/agent"
    docker: str = "unix:///var/run/docker.sock"
    hostname: str = ""
    address: str = ""
    labels: dict[str, str] = {}
    cpus: str = ""
    memory: str = ""
    generic_resources: tuple[str, ...] = ()
    tls_ca: str = ""
    tls_cert: str = ""
    tls_key: str = ""
    log_level: str = "info"
    log_json: bool = False

    def offered(self, host: Resources) -> Resources:
        """Return what tasks may reserve of what the host has.

        Raises:
            InvalidError: an amount does not parse.
        """
        counts, _ = self._generic()
        return Resources(
            cpu_nanos=parse_cpus(self.cpus) if self.cpus else host.cpu_nanos,
            memory_bytes=parse_bytes(self.memory) if self.memory else host.memory_bytes,
            generic=counts,
        )

    def generic_items(self) -> dict[str, tuple[str, ...]]:
        """Return the names of the generic resources that have some, by kind.

        Raises:
            InvalidError: an entry does not parse.
        """
        _, items = self._generic()
        return items

    def _generic(self) -> tuple[dict[str, int], dict[str, tuple[str, ...]]]:
        try:
            return generic.offered(self.generic_resources)
        except InvalidError as error:
            raise InvalidError(f"generic_resources: {error}") from error

    def check(self) -> None:
        """Refuse what cannot be, before anything is started.

        Raises:
            InvalidError: says which key and why.
        """
        if not self.managers:
            raise InvalidError("managers: name at least one, as host:port")
        for manager in self.managers:
            host, colon, port = manager.rpartition(":")
            if not (host and colon and port.isdecimal()):
                raise InvalidError(f"managers: '{manager}' is not host:port")
        self.offered(Resources())

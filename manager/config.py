"""What a manager is told: where to listen, where etcd is, and whom to trust."""

import ipaddress
from pathlib import Path

import msgspec

from cluster.errors import InvalidError
from cluster.settings import TlsFiles, tls_files

LEASE_SECONDS_MIN = 2  # etcd grants no less
LEASE_SECONDS_MAX = 60
LOG_LEVELS = ("debug", "info", "warning", "error")


class ManagerSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Run a manager: it keeps the cluster's state in etcd and decides where tasks run.

    Attributes:
        listen: host:port to serve agents, clients and other managers at.
        advertise: host:port at which they reach it; empty takes the address of listen.
        etcd: host:port of each etcd member.
        etcd_ca: PEM file of the authority that signs etcd's certificates; empty: etcd has none.
        etcd_cert: PEM file of the certificate to show to etcd.
        etcd_key: PEM file of its key.
        etcd_user: user to log in to etcd as; empty: etcd asks for none.
        etcd_password_file: file that holds nothing but that user's password.
        tls_ca: PEM file of the authority that signs the certificates of all who may connect.
        tls_cert: PEM file of this manager's certificate.
        tls_key: PEM file of its key.
        insecure: serve other hosts although there is no TLS; whoever reaches it rules the cluster.
        lease_seconds: a manager that died is replaced after so long.
        log_level: the least that is logged; debug, info, warning or error.
        log_json: log JSON objects, one a line.
    """

    listen: str = "127.0.0.1:7420"
    advertise: str = ""
    etcd: tuple[str, ...] = ("127.0.0.1:2379",)
    etcd_ca: str = ""
    etcd_cert: str = ""
    etcd_key: str = ""
    etcd_user: str = ""
    etcd_password_file: str = ""
    tls_ca: str = ""
    tls_cert: str = ""
    tls_key: str = ""
    insecure: bool = False
    lease_seconds: int = 3
    log_level: str = "info"
    log_json: bool = False

    @property
    def tls(self) -> TlsFiles | None:
        """The files to serve with; None: without TLS."""
        return tls_files(self.tls_ca, self.tls_cert, self.tls_key)


def check(settings: ManagerSettings) -> None:
    """Refuse settings that contradict each other or endanger the cluster.

    Raises:
        InvalidError: which, and what to do.
    """
    host, _ = host_and_port("listen", settings.listen, port_min=0)
    if settings.advertise:
        host_and_port("advertise", settings.advertise)
    elif _is_every_address(host):
        raise InvalidError(
            f"listen is {settings.listen}, every address of this host: say with advertise"
            " (host:port) which of them others are to use"
        )
    if settings.tls is None and not _is_loopback(host) and not settings.insecure:
        raise InvalidError(
            f"listen is {settings.listen}, which other hosts can reach, and there is no TLS: set"
            " tls_ca, tls_cert and tls_key, or insecure if everyone who can reach it may rule the"
            " cluster"
        )
    if not settings.etcd:
        raise InvalidError("etcd must name at least one member, as host:port")
    for endpoint in settings.etcd:
        host_and_port("etcd", endpoint)
    if bool(settings.etcd_user) != bool(settings.etcd_password_file):
        raise InvalidError("etcd_user and etcd_password_file: give both or neither")
    if bool(settings.etcd_cert) != bool(settings.etcd_key):
        raise InvalidError("etcd_cert and etcd_key: give both or neither")
    if settings.etcd_cert and not settings.etcd_ca:
        raise InvalidError("etcd_cert needs etcd_ca, the authority that signs etcd's own")
    if not LEASE_SECONDS_MIN <= settings.lease_seconds <= LEASE_SECONDS_MAX:
        raise InvalidError(
            f"lease_seconds must be {LEASE_SECONDS_MIN} to {LEASE_SECONDS_MAX}, is"
            f" {settings.lease_seconds}"
        )
    if settings.log_level not in LOG_LEVELS:
        raise InvalidError(f"log_level must be {', '.join(LOG_LEVELS)}, is '{settings.log_level}'")


def etcd_password(settings: ManagerSettings) -> str | None:
    """Return the password to log in to etcd with; None if there is no user.

    Raises:
        InvalidError: its file cannot be read.
    """
    if not settings.etcd_user:
        return None
    try:
        return Path(settings.etcd_password_file).read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeError) as error:
        raise InvalidError(f"cannot read {settings.etcd_password_file}: {error}") from error


def host_and_port(key: str, text: str, *, port_min: int = 1) -> tuple[str, int]:
    """Return the two parts of an address; that of IPv6 stands in brackets.

    Raises:
        InvalidError: it is not host:port.
    """
    host, colon, port = text.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    bracketed = host.startswith("[") and host.endswith("]")
    if (
        not (colon and bare and port.isascii() and port.isdigit())
        or not port_min <= int(port) <= 65_535  # noqa: PLR2004 - the last port there is
        or (":" in bare) != bracketed
    ):
        raise InvalidError(f"{key} must be host:port, such as 192.0.2.1:7420, is '{text}'")
    return bare, int(port)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _is_every_address(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False

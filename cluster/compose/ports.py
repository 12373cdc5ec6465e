"""The ports of a service."""

from cluster.compose import catalogue, fields
from cluster.compose.fields import Cursor, Fields, Refused
from cluster.model import PublishedPort
from cluster.validation import PORT_MAX, PROTOCOLS


def published(service: Fields) -> tuple[PublishedPort, ...]:
    """Return the ports, with one warning for those that a routing mesh should publish."""
    if "ports" not in service:
        return ()
    found: list[PublishedPort] = []
    meshed: list[str] = []
    try:
        cursors = service.at("ports").items()
    except Refused:
        return ()
    for cursor in cursors:
        try:
            port, is_host = _port(cursor)
        except Refused:
            continue
        found.append(port)
        if not is_host and port.published:
            meshed.append(str(port.published))
    if meshed:
        verb = "is" if len(meshed) == 1 else "are"
        service.at("ports").warn(
            f"{', '.join(meshed)} {verb} published on the hosts which run a task, as with "
            "mode: host; there is no routing mesh yet"
        )
    return tuple(found)


def _port(cursor: Cursor) -> tuple[PublishedPort, bool]:
    """Return the port, and whether it is asked for on the task's host only."""
    port = Fields(cursor, catalogue.PORT)
    if "target" not in port:
        raise cursor.refused("expected a target, the port in the container")
    is_host = port.get("mode", fields.choice({"host": True, "ingress": False}), False)
    published = PublishedPort(
        target=port.get("target", _port_number, 1),
        published=port.get("published", _port_number, 0),
        protocol=port.get("protocol", fields.choice({name: name for name in PROTOCOLS}), "tcp"),
        host_ip=port.get("host_ip", fields.text, ""),
    )
    return published, is_host


def _port_number(cursor: Cursor) -> int:
    number = cursor.scalar("a port")
    if not number.text.isdecimal() or not number.text.isascii() or len(number.text) > len("65535"):
        raise cursor.unexpected(f"a port, 1 to {PORT_MAX}")
    return int(number.text)

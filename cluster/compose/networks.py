"""The networks of a service."""

from cluster.compose import catalogue, fields
from cluster.compose.fields import Cursor, Fields, Refused
from cluster.compose.nodes import is_null
from cluster.compose.stack import DEFAULT_NETWORK, Stack, declared
from cluster.model import NetworkAttachment, NetworkMode

_NETWORK_MODES = {
    "host": NetworkMode.HOST,
    "none": NetworkMode.NONE,
    "bridge": NetworkMode.NETWORKS,
}


def attachments(service: Fields, stack: Stack) -> tuple[NetworkMode, tuple[NetworkAttachment, ...]]:
    """Return where the service's containers are; on the stack's own network if nothing is said.

    That a service is found by its own name, without the stack's, is the agent's business.
    """
    if "network_mode" in service:
        mode = service.get("network_mode", _network_mode, NetworkMode.NETWORKS)
        if "networks" in service:
            cursor = service.at("networks")
            cursor.report.problem(
                service.key_position("networks"),
                cursor.path,
                "cannot be joined with a network_mode; keep one of the two",
            )
        return mode, ()
    joined = service.get("networks", lambda cursor: _joined(cursor, stack), ())
    if joined:
        return NetworkMode.NETWORKS, joined
    return NetworkMode.NETWORKS, (NetworkAttachment(network=stack.networks[DEFAULT_NETWORK].name),)


def _network_mode(cursor: Cursor) -> NetworkMode:
    word = fields.text(cursor)
    if word.startswith(("service:", "container:")):
        raise cursor.refused("a task cannot share another's network; join it by `networks`")
    return fields.choice(_NETWORK_MODES)(cursor)


def _joined(cursor: Cursor, stack: Stack) -> tuple[NetworkAttachment, ...]:
    joined = []
    for key, child in cursor.children():
        try:
            network = declared(child, key, stack.networks, "networks")
            aliases: tuple[str, ...] = ()
            if not is_null(child.node):
                attachment = Fields(child, catalogue.ATTACHMENT)
                aliases = attachment.get("aliases", fields.list_of(fields.some_text), ())
        except Refused:
            continue
        joined.append(
            NetworkAttachment(network=network.name, aliases=tuple(dict.fromkeys(aliases)))
        )
    return tuple(joined)

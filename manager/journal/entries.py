"""An entry of the journal as it is stored, and as events.

A commit of a hundred tasks is a hundred events that mostly say the same. So an entry gathers
what is alike: the words once, then what is particular to each object.
"""

from collections.abc import Callable, Iterable, Iterator

import msgspec

from cluster.model import Event, NodeId, ServiceId, Value
from manager.store.interface import KeyValue

# Of Docker's 64 characters: any beginning names a container, and there are many.
CONTAINER_ID_CHARACTERS = 12

# Enough for a sentence with its values; an agent's error may be a page.
WHY_CHARACTERS_MAX = 400


class Item(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True):
    """One object of a group; as an array, for it is what there is most of.

    Attributes:
        at: if it was another time than the entry's.
        run: of a job.
    """

    id: str
    slot: int = 0
    node_id: str = ""
    at: float = 0.0
    container_id: str = ""
    run: int = 0


class Group(Value, frozen=True):
    """Events that differ only in their objects."""

    kind: str
    event: str
    items: tuple[Item, ...]
    why: str = ""
    name: str = ""
    request_id: str = ""
    service_id: str = ""
    service: str = ""
    stack: str = ""


class Entry(Value, frozen=True):
    """What one transaction did."""

    at: float
    by: str
    groups: tuple[Group, ...]


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Entry)


def encode(entry: Entry) -> bytes:
    return _encoder.encode(entry)


def events_of(item: KeyValue, hostname: Callable[[str], str]) -> Iterator[Event]:
    """Yield the events of an entry; none of one that this version cannot read.

    Args:
        item: as it stands in the store.
        hostname: what people call the node of that id.
    """
    try:
        entry = _decoder.decode(item.value)
    except msgspec.MsgspecError:
        return
    for group in entry.groups:
        for each in group.items:
            node = hostname(each.node_id) if each.node_id else ""
            yield Event(
                at=each.at or entry.at,
                kind=group.kind,
                event=group.event,
                id=each.id,
                name=group.name or _task_name(group, each, node),
                why=group.why,
                request_id=group.request_id,
                service_id=ServiceId(group.service_id),
                service=group.service,
                stack=group.stack,
                slot=each.slot,
                node_id=NodeId(each.node_id),
                node=node,
                container_id=each.container_id,
                run=each.run,
                by=entry.by,
                revision=item.mod_revision,
            )


def _task_name(group: Group, item: Item, node: str) -> str:
    name = f"{group.service or group.service_id}.{item.slot or node}"
    return f"{name} of run {item.run}" if item.run else name


def gathered(moments: Iterable[tuple[Group, Item]]) -> tuple[Group, ...]:
    """Return one group for all that is alike, in the order in which each kind came first."""
    found: dict[tuple[str, ...], tuple[Group, list[Item]]] = {}
    for group, item in moments:
        key = (
            group.kind,
            group.event,
            group.why,
            group.name,
            group.request_id,
            group.service_id,
        )
        found.setdefault(key, (group, []))[1].append(item)
    return tuple(
        msgspec.structs.replace(group, items=tuple(items)) for group, items in found.values()
    )

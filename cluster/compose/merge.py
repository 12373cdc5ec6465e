"""Several files -> one tree, by the rules of Compose.

Works on normalised trees (see ``forms``), where one thing has one shape:

    maps                    merged key by key, the later file winning
    lists                   appended; a word that is there already is not added again
    ports, volumes          one entry per port and per target: a later entry takes its place;
                            likewise generic resources by kind, wishes by what they are about
    command, entrypoint,    replaced
    healthcheck.test
    logging                 replaced if the drivers differ, else merged
    nothing (``key:``)      leaves what the files before say, but counts in ``environment``
    !reset, !override       removes, or replaces without merging

The result's nodes are those of the files, so every value still knows where it was written.
"""

from collections.abc import Callable, Hashable

from cluster.compose.catalogue import EXTENSION
from cluster.compose.nodes import Items, Kind, Mapping, Node, Scalar, Tag, described, is_null
from cluster.compose.problems import Report

# Keys of a service by what merging them means; the rest goes by its shape.
_REPLACED = frozenset(
    {("command",), ("entrypoint",), ("healthcheck", "test"), ("build",), ("extends",)}
)


# Maps in which a name without a value is a value too.
_PAIRS = frozenset(
    {("environment",), ("labels",), ("deploy", "labels"), ("sysctls",), ("logging", "options")}
)


def merge(base: Mapping, over: Mapping, report: Report) -> Mapping:
    """Return *base* as changed by *over*, a document of a later file."""
    return _mappings(base, over, (), report)


def merge_service(base: Mapping, over: Mapping, name: str, report: Report) -> Mapping:
    """Return the service *base* as changed by *over*, the service *name* that extends it."""
    return _mappings(base, over, ("services", name), report)


def settled(node: Node) -> Node:
    """Return *node* with its merge tags obeyed where there is nothing to merge with."""
    match node:
        case Mapping():
            entries = {
                key: settled(part)
                for key, part in node.entries.items()
                if part.tag is not Tag.RESET
            }
            return Mapping(entries, node.keys_at, node.at)
        case Items():
            items = tuple(settled(item) for item in node.items if item.tag is not Tag.RESET)
            return Items(items, node.at)
        case Scalar():
            return node if node.tag is Tag.NONE else Scalar(node.text, node.kind, node.at)


def _mappings(base: Mapping, over: Mapping, path: tuple[str, ...], report: Report) -> Mapping:
    entries = dict(base.entries)
    for key, part in over.entries.items():
        if part.tag is Tag.RESET:
            entries.pop(key, None)
        elif key in entries and part.tag is not Tag.OVERRIDE:
            entries[key] = _nodes(entries[key], part, (*path, key), report)
        else:
            entries[key] = settled(part)
    return Mapping(entries, {**base.keys_at, **over.keys_at}, base.at, base.tag)


def _nodes(base: Node, over: Node, path: tuple[str, ...], report: Report) -> Node:
    in_service = path[2:] if path[0] == "services" else ()
    if is_null(over) and in_service[:-1] in _PAIRS:
        return over
    if is_null(over) or _is_broken(base):
        return base
    if is_null(base) or _is_broken(over) or in_service in _REPLACED:
        return settled(over)
    match base, over:
        case Mapping(), Mapping():
            if in_service == ("logging",) and _other_driver(base, over):
                return settled(over)
            return _mappings(base, over, path, report)
        case Items(), Items():
            return _lists(base, over, _IDENTITY.get(in_service, _word))
        case Scalar(), Scalar():
            return settled(over)
    message = f"cannot merge {described(over)} with {described(base)} of {base.at}"
    report.problem(over.at, ".".join(path), message)
    return base


def _lists(base: Items, over: Items, identity: Callable[[Node], Hashable]) -> Items:
    """Return the entries of both in order; a later one takes the place of its like.

    Likes within one list are left for the reader to find.
    """
    items = list(base.items)
    places = {identity(node): place for place, node in reversed(list(enumerate(items)))}
    for node in over.items:
        key = identity(node)
        place = places.pop(key, None) if key is not None else None
        if place is None:
            items.append(settled(node))
        else:
            items[place] = settled(node)
    return Items(tuple(items), base.at, base.tag)


def _word(node: Node) -> Hashable:
    return node.text if isinstance(node, Scalar) else None


def _port(node: Node) -> Hashable:
    if not isinstance(node, Mapping):
        return None
    address, published, target = (_text(node, key) for key in ("host_ip", "published", "target"))
    return address, published, target, _text(node, "protocol") or "tcp"


def _target(node: Node) -> Hashable:
    if not isinstance(node, Mapping):
        return None
    return _text(node, "target").rstrip("/") or None


def _path(node: Node) -> Hashable:
    if not isinstance(node, Mapping):
        return None
    return _text(node, "path") or None


def _kind(node: Node) -> Hashable:
    spec = node.entries.get("discrete_resource_spec") if isinstance(node, Mapping) else None
    return (_text(spec, "kind") or None) if isinstance(spec, Mapping) else None


def _place(node: Node) -> Hashable:
    if not isinstance(node, Mapping):
        return None
    service = _text(node, "service")
    return (service, _text(node, "topology")) if service else None


def _wish(node: Node) -> Hashable:
    if not isinstance(node, Mapping):
        return None
    return _text(node, "spread") or _text(node, "constraint") or None


_IDENTITY: dict[tuple[str, ...], Callable[[Node], Hashable]] = {
    ("ports",): _port,
    ("volumes",): _target,
    ("env_file",): _path,
    ("deploy", "resources", "reservations", "generic_resources"): _kind,
    ("deploy", "placement", "preferences"): _wish,
    (EXTENSION, "affinity"): _place,
    (EXTENSION, "anti_affinity"): _place,
    (EXTENSION, "prefer"): _wish,
}


def _other_driver(base: Mapping, over: Mapping) -> bool:
    drivers = _text(base, "driver"), _text(over, "driver")
    return all(drivers) and drivers[0] != drivers[1]


def _text(node: Mapping, key: str) -> str:
    part = node.entries.get(key)
    return part.text if isinstance(part, Scalar) else ""


def _is_broken(node: Node) -> bool:
    return isinstance(node, Scalar) and node.kind is Kind.BROKEN

"""One shape for each thing: what Compose lets be written in several ways is made the long one.

Done for each file before files are merged, because merging goes by shape. A value of a shape
that is not expected is left as it is: whoever reads it says what is wrong with it.

To add a short form, write a function of (node, path, forms) and list it in a table.
"""

from collections.abc import Callable

from cluster.compose import short
from cluster.compose.catalogue import EXTENSION
from cluster.compose.nodes import Items, Kind, Mapping, Node, Scalar, is_null, mapping, string
from cluster.compose.problems import Position, Report
from cluster.compose.short import Base


class Forms:
    """What a form may need to know: where paths start, and whom to tell."""

    def __init__(self, base: Base, report: Report) -> None:
        self.base = base
        self.report = report


Form = Callable[[Node, str, Forms], Node]


def normalised(document: Mapping, base: Base, report: Report) -> Mapping:
    """Return the document with every short form made long."""
    forms = Forms(base, report)
    return _with(document, "", _DOCUMENT, forms)


def _with(node: Mapping, path: str, table: dict[str, Form], forms: Forms) -> Mapping:
    changed = {
        key: form(node.entries[key], f"{path}.{key}" if path else key, forms)
        for key, form in table.items()
        if key in node.entries
    }
    return node.replacing(changed)


def _map(table: dict[str, Form]) -> Form:
    """Return the form of a map with known keys."""
    return lambda node, path, forms: (
        _with(node, path, table, forms) if isinstance(node, Mapping) else node
    )


def _each(form: Form) -> Form:
    """Return the form of a map or list of like things."""

    def apply(node: Node, path: str, forms: Forms) -> Node:
        match node:
            case Mapping():
                return node.replacing(
                    {key: form(part, f"{path}.{key}", forms) for key, part in node.entries.items()}
                )
            case Items():
                items = [form(item, f"{path}[{i}]", forms) for i, item in enumerate(node.items)]
                return Items(tuple(items), node.at, node.tag)
            case Scalar():
                return node

    return apply


def _listed(node: Node, _path: str, _forms: Forms) -> Node:
    """``x`` -> ``[x]``."""
    if isinstance(node, Scalar) and node.kind not in (Kind.NULL, Kind.BROKEN):
        item = Scalar(node.text, node.kind, node.at)
        return Items((item,), node.at, node.tag)
    return node


def _pairs(node: Node, path: str, forms: Forms) -> Node:
    """``[A=1, B]`` -> ``{A: 1, B: }``."""
    return _split(node, path, forms, "=")


def _split(node: Node, path: str, forms: Forms, separators: str) -> Node:
    if not isinstance(node, Items):
        return node
    entries: dict[str, Node] = {}
    keys_at: dict[str, Position] = {}
    for index, item in enumerate(node.items):
        if not isinstance(item, Scalar) or is_null(item):
            message = f"expected NAME{separators[0]}VALUE"
            forms.report.problem(item.at, f"{path}[{index}]", message)
            continue
        if item.kind is Kind.BROKEN:
            continue
        cut = min((at for at in map(item.text.find, separators) if at >= 0), default=-1)
        key = item.text if cut < 0 else item.text[:cut]
        if key in entries:
            message = f"{key} is set before at {keys_at[key]}; the last one counts"
            forms.report.warning(item.at, f"{path}[{index}]", message)
        keys_at[key] = item.at
        value = Scalar("", Kind.NULL, item.at) if cut < 0 else string(item.text[cut + 1 :], item.at)
        entries[key] = value
    return Mapping(entries, keys_at, node.at, node.tag)


def _named(value: Callable[[Scalar], Node]) -> Form:
    """``[a, b]`` -> ``{a: value, b: value}``."""

    def apply(node: Node, path: str, forms: Forms) -> Node:
        if not isinstance(node, Items):
            return node
        entries: dict[str, Node] = {}
        keys_at: dict[str, Position] = {}
        for index, item in enumerate(node.items):
            if isinstance(item, Scalar) and item.kind not in (Kind.NULL, Kind.BROKEN):
                entries[item.text] = value(item)
                keys_at[item.text] = item.at
            elif not isinstance(item, Scalar) or is_null(item):
                forms.report.problem(item.at, f"{path}[{index}]", "expected a name")
        return Mapping(entries, keys_at, node.at, node.tag)

    return apply


def _nothing(item: Scalar) -> Node:
    return Scalar("", Kind.NULL, item.at)


def _started(item: Scalar) -> Node:
    return mapping({"condition": string("service_started", item.at)}, item.at)


def _ports(node: Node, path: str, forms: Forms) -> Node:
    if not isinstance(node, Items):
        return node
    items: list[Node] = []
    for index, item in enumerate(node.items):
        if isinstance(item, Scalar) and item.kind in (Kind.STRING, Kind.INT):
            items.extend(short.ports(item, f"{path}[{index}]", forms.report))
        else:
            items.append(item)
    return Items(tuple(items), node.at, node.tag)


def _mount(node: Node, path: str, forms: Forms) -> Node:
    if isinstance(node, Scalar) and node.kind is Kind.STRING:
        return short.mount(node, path, forms.base, forms.report)
    if isinstance(node, Mapping):
        node = _with(node, path, {"volume": _map({"labels": _pairs})}, forms)
        return short.mount_source(node, path, forms.base, forms.report)
    return node


def _env_file(node: Node, path: str, forms: Forms) -> Node:
    if isinstance(node, Scalar) and node.kind is Kind.STRING:
        node = mapping({"path": string(node.text, node.at)}, node.at)
    if isinstance(node, Mapping):
        return _with(node, path, {"path": _path}, forms)
    return node


def _path(node: Node, _path: str, forms: Forms) -> Node:
    if isinstance(node, Scalar) and node.kind is Kind.STRING and node.text:
        return string(forms.base.absolute(node.text), node.at)
    return node


def _ulimit(node: Node, _path: str, _forms: Forms) -> Node:
    if isinstance(node, Scalar) and node.kind in (Kind.INT, Kind.STRING):
        return mapping({"soft": node, "hard": node}, node.at)
    return node


def _hosts(node: Node, path: str, forms: Forms) -> Node:
    """``[name:address, name=address]`` -> ``{name: [address]}``."""
    if isinstance(node, Items):
        names: dict[str, list[Node]] = {}
        keys_at: dict[str, Position] = {}
        for item in node.items:
            split = _split(Items((item,), item.at), path, forms, "=:")
            assert isinstance(split, Mapping)
            for name, address in split.entries.items():
                names.setdefault(name, []).append(address)
                keys_at.setdefault(name, item.at)
        lists: dict[str, Node] = {
            name: Items(tuple(addresses), keys_at[name]) for name, addresses in names.items()
        }
        return Mapping(lists, keys_at, node.at, node.tag)
    return _each(_listed)(node, path, forms) if isinstance(node, Mapping) else node


def _extends(node: Node, _path: str, _forms: Forms) -> Node:
    if isinstance(node, Scalar) and node.kind is Kind.STRING:
        return mapping({"service": node}, node.at)
    return node


def _declared(node: Node, path: str, forms: Forms) -> Node:
    """Return a network or volume without the old ``external: {name: x}``."""
    if not isinstance(node, Mapping):
        return node
    node = _with(node, path, {"labels": _pairs}, forms)
    external = node.entries.get("external")
    if isinstance(external, Mapping) and set(external.entries) <= {"name"}:
        return node.replacing(
            {**external.entries, "external": Scalar("true", Kind.BOOL, external.at)}
        )
    return node


def _called(key: str) -> Form:
    """``x`` -> ``{key: x}``."""

    def apply(node: Node, _path: str, _forms: Forms) -> Node:
        if isinstance(node, Scalar) and node.kind in (Kind.STRING, Kind.INT):
            return mapping({key: string(node.text, node.at)}, node.at)
        return node

    return apply


def _listed_each(form: Form) -> Form:
    """Return the form of a list that may be a single thing."""

    def apply(node: Node, path: str, forms: Forms) -> Node:
        if isinstance(node, Items):
            return _each(form)(node, path, forms)
        if isinstance(node, Mapping) or node.kind is Kind.STRING:
            return Items((form(node, path, forms),), node.at, node.tag)
        return node

    return apply


_OURS: dict[str, Form] = {
    "affinity": _listed_each(_called("service")),
    "anti_affinity": _listed_each(_called("service")),
    "prefer": _listed_each(_called("constraint")),
    "schedule": _called("cron"),
    "tolerates": _listed,
}
_SERVICE: dict[str, Form] = {
    "annotations": _pairs,
    "depends_on": _named(_started),
    "deploy": _map({"labels": _pairs}),
    "dns": _listed,
    "dns_search": _listed,
    "env_file": _listed_each(_env_file),
    "environment": _pairs,
    "extends": _extends,
    "extra_hosts": _hosts,
    "labels": _pairs,
    "networks": _named(_nothing),
    "ports": _ports,
    "sysctls": _pairs,
    "tmpfs": _listed,
    "ulimits": _each(_ulimit),
    "volumes": _each(_mount),
    EXTENSION: _map(_OURS),
}
_DOCUMENT: dict[str, Form] = {
    "services": _each(_map(_SERVICE)),
    "networks": _each(_declared),
    "volumes": _each(_declared),
}

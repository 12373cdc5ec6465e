"""What commands print: listings and single objects, in the format that was asked for.

``--format`` is ``table`` (for people: short ids, "2 minutes ago"), ``json`` or ``yaml`` (for
programs: whole values), or a template of fields (see ``template``).
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import click

from clusterctl.render.plain import plain
from clusterctl.render.table import table
from clusterctl.render.template import compile_template

T = TypeVar("T")

TABLE, JSON, YAML = "table", "json", "yaml"
_TABLE_TEMPLATE = "table "


@dataclass(frozen=True, slots=True)
class Kind(Generic[T]):
    """How one kind of object is shown.

    Attributes:
        columns: title and text of each column of a table.
        row: the object as programs see it, flat where it can be.
        identity: what ``--quiet`` prints.
    """

    columns: Sequence[tuple[str, Callable[[T], str]]]
    row: Callable[[T], dict[str, Any]]
    identity: Callable[[T], str]


def listing(kind: Kind[T], items: Sequence[T], form: str, *, quiet: bool = False) -> str:
    """Return *items* in the format *form*, ready to be printed.

    Raises:
        InvalidError: *form* is no format.
    """
    if quiet:
        return _lines(kind.identity(item) for item in items)
    if form == TABLE:
        header = [title for title, _ in kind.columns]
        return _lines([table(header, [[cell(item) for _, cell in kind.columns] for item in items])])
    return structured([kind.row(item) for item in items], form)


def inspection(items: Sequence[T], form: str, details: Callable[[T], str]) -> str:
    """Return objects in full; *details* writes one for people.

    Raises:
        InvalidError: *form* is no format.
    """
    if form == TABLE:
        return _lines("\n".join(details(item) for item in items).splitlines())
    return structured([plain(item) for item in items], form)


def structured(rows: Sequence[dict[str, Any]], form: str) -> str:
    """Return rows as JSON, as YAML or by a template, one line each.

    Raises:
        InvalidError: *form* is no format.
    """
    if form == JSON:
        return json.dumps(rows, indent=2, ensure_ascii=False) + "\n"
    if form == YAML:
        return to_yaml(list(rows))
    header = form.startswith(_TABLE_TEMPLATE)
    render = compile_template(check_format(form).removeprefix(_TABLE_TEMPLATE))
    lines = [render(row) for row in rows]
    if not header:
        return _lines(lines)
    cells = [line.split("\t") for line in lines]
    titles = _titles(form.removeprefix(_TABLE_TEMPLATE))
    return _lines([table(titles, [(*row, *[""] * len(titles))[: len(titles)] for row in cells])])


def single(row: dict[str, Any], form: str) -> str:
    """Return one object, not a list of one, as JSON, as YAML or by a template.

    Raises:
        InvalidError: *form* is no format.
    """
    if form == JSON:
        return json.dumps(row, indent=2, ensure_ascii=False) + "\n"
    return to_yaml(row) if form == YAML else structured([row], form)


def check_format(form: str) -> str:
    """Return *form* if it is a format.

    Raises:
        InvalidError: it is none.
    """
    if form in (TABLE, JSON, YAML) or "{{" in form:
        return form
    raise click.BadParameter(
        f"'{form}' is no format: use table, json, yaml or a template such as '{{{{.Name}}}}'"
    )


def to_yaml(value: Any) -> str:
    """Return YAML in the order of the keys; long texts stay on their line."""
    import yaml

    text: str = yaml.dump(
        value,
        Dumper=getattr(yaml, "CSafeDumper", yaml.SafeDumper),
        sort_keys=False,
        allow_unicode=True,
        width=10_000,
    )
    return text


def _titles(template: str) -> list[str]:
    return [
        "".join(sign for sign in part if sign.isalnum() or sign == " ").strip().upper()
        for part in template.replace(r"\t", "\t").split("\t")
    ]


def _lines(lines: Any) -> str:
    return "".join(f"{line}\n" for line in lines)

r"""Templates such as ``{{.Name}}: {{.Replicas}}``: the part of Go's that people use in scripts.

    {{.Name}}                 a field of the object; case and underscores do not matter
    {{.Spec.Task.Container}}  a field of a field
    {{json .}} {{json .Name}} as JSON
    {{upper .Name}} {{lower .Name}} {{len .Ports}} {{join .Ports ", "}}
    \t \n                       a tab, a new line

A field that does not exist is refused, with the nearest one that does.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from cluster.errors import InvalidError, did_you_mean

_PART = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)
_WORD = re.compile(r'"(?:[^"\\]|\\.)*"|\S+')
_ESCAPES = {r"\t": "\t", r"\n": "\n", r"\\": "\\"}

Row = Mapping[str, Any]
Render = Callable[[Row], str]


def compile_template(text: str) -> Render:
    """Return what writes one object by the template.

    Raises:
        InvalidError: it is no template. What it returns raises it too, for an unknown field.
    """
    parts: list[str | Render] = []
    end = 0
    for match in _PART.finditer(text):
        parts += [_unescaped(text[end : match.start()]), _expression(match[1])]
        end = match.end()
    rest = text[end:]
    if "{{" in rest:
        raise InvalidError(f"template '{text}': '{{{{' without '}}}}'")
    parts.append(_unescaped(rest))
    return lambda row: "".join(part if isinstance(part, str) else part(row) for part in parts)


def _unescaped(text: str) -> str:
    return re.sub(r"\\[tn\\]", lambda match: _ESCAPES[match[0]], text)


def _expression(text: str) -> Render:
    words = _WORD.findall(text)
    if len(words) == 1 and words[0].startswith("."):
        return lambda row: _shown(_value(row, words[0]))
    if len(words) >= 2 and words[0] in _FUNCTIONS and words[1].startswith("."):  # noqa: PLR2004
        function, path = _FUNCTIONS[words[0]], words[1]
        rest = [json.loads(word) if word.startswith('"') else word for word in words[2:]]
        return lambda row: function(_value(row, path), *rest[:1])
    known = ", ".join(_FUNCTIONS)
    raise InvalidError(
        f"template '{{{{{text}}}}}': write {{{{.Field}}}} or a function and a field; "
        f"functions are {known}"
    )


def _value(row: Any, path: str) -> Any:
    value = row
    for name in filter(None, path.split(".")):
        if not isinstance(value, Mapping):
            raise InvalidError(f"template: {path} goes too deep: there is nothing in '{name}'")
        value = value[_key(value, name)]
    return value


def _key(row: Row, name: str) -> str:
    """Return the key that a template's name means; a map's own keys are exact first."""
    if name in row:
        return name
    keys = {_folded(key): key for key in row}
    if _folded(name) in keys:
        return keys[_folded(name)]
    spelt = [key.title().replace("_", "") for key in row]
    near = did_you_mean(name, spelt)
    raise InvalidError(f"template: no field '{name}';{near or ' there are ' + ', '.join(spelt)}")


def _folded(name: str) -> str:
    return name.replace("_", "").lower()


def _shown(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        return ", ".join(value)
    if isinstance(value, list | dict):
        return json.dumps(value)
    return str(value)


def _join(value: Any, separator: str = ", ") -> str:
    return separator.join(map(str, value))


_FUNCTIONS: dict[str, Callable[..., str]] = {
    "json": json.dumps,
    "upper": lambda value: _shown(value).upper(),
    "lower": lambda value: _shown(value).lower(),
    "len": lambda value: str(len(value)),
    "join": _join,
}

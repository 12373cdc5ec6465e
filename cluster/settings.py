"""A daemon's settings: a YAML file, environment variables and flags, all of the same keys.

Declare them once, as a frozen struct with defaults and one ``Attributes:`` line each; then
``heartbeat_seconds`` is the key in the file, ``SHOAL_AGENT_HEARTBEAT_SECONDS`` in the
environment and ``--heartbeat-seconds`` on the command line. A flag wins over the environment,
that over the file, that over the default. An unknown key is refused, never dropped.

Lists are comma-separated in flags and variables, maps are ``a=1,b=2``.
"""

import argparse
import inspect
import re
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import yaml

from cluster.errors import InvalidError, did_you_mean

S = TypeVar("S", bound=msgspec.Struct)


class TlsFiles(msgspec.Struct, frozen=True, kw_only=True):
    """Paths of PEM files that identify us and those we trust; all three or none."""

    ca: str
    cert: str
    key: str


def tls_files(ca: str, cert: str, key: str) -> TlsFiles | None:
    """Return the three as one; None if none is given.

    Raises:
        InvalidError: only some are given.
    """
    given = [ca, cert, key]
    if not any(given):
        return None
    if not all(given):
        raise InvalidError("TLS needs a CA, a certificate and a key: give all three or none")
    return TlsFiles(ca=ca, cert=cert, key=key)


def load(
    kind: type[S], program: str, arguments: Sequence[str], environment: Mapping[str, str]
) -> S:
    """Return the settings of *program* ("manager", "agent").

    Prints help and exits on ``--help``, exits with 2 on an unknown flag, as argparse does.

    Raises:
        InvalidError: an unknown key or a value of the wrong type; says where.
    """
    parser = _parser(kind, program)
    flags = vars(parser.parse_args(arguments))
    prefix = f"SHOAL_{program.upper()}_"
    path = flags.pop("config") or environment.get(f"{prefix}CONFIG")
    values: dict[str, Any] = _read(path, kind) if path else {}
    hints = typing.get_type_hints(kind)
    for name, hint in hints.items():
        text = flags.get(name)
        origin = _flag(name)
        if text is None:
            text, origin = environment.get(prefix + name.upper()), prefix + name.upper()
        if text is not None:
            values[name] = _from_text(text, hint, origin)
    known = {f"{prefix}CONFIG", *(prefix + name.upper() for name in hints)}
    for name in environment:
        if name.startswith(prefix) and name not in known:
            raise InvalidError(f"environment variable {name} is no setting" + hint_of(name, known))
    try:
        return msgspec.convert(values, kind, strict=True)
    except msgspec.ValidationError as error:
        raise InvalidError(f"{path or program}: {error}") from error


def hint_of(word: str, known: typing.Iterable[str]) -> str:
    near = did_you_mean(word, known)
    return f";{near}" if near else ""


def _parser(kind: type[msgspec.Struct], program: str) -> argparse.ArgumentParser:
    doc = inspect.getdoc(kind) or ""
    parser = argparse.ArgumentParser(
        prog=f"shoal-{program}",
        description=doc.partition("\n")[0],
        epilog=(
            "Each flag is also a key of the configuration file and, in capitals with the prefix "
            f"SHOAL_{program.upper()}_, an environment variable. Flags win over variables, those "
            "over the file."
        ),
    )
    parser.add_argument("--config", metavar="FILE", help="YAML file with any of these keys")
    helps = _attribute_docs(doc)
    for field in msgspec.structs.fields(kind):
        default = field.default if field.default is not msgspec.NODEFAULT else None
        shown = "" if default in (None, "", (), {}) else f" (default: {_shown(default)})"
        parser.add_argument(
            _flag(field.name), metavar="VALUE", help=helps.get(field.name, "") + shown
        )
    return parser


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return str(value).replace("%", "%%")


def _attribute_docs(doc: str) -> dict[str, str]:
    found: dict[str, str] = {}
    name = None
    for line in doc.partition("Attributes:")[2].splitlines():
        if match := re.match(r"    (\w+): (.*)", line):
            name = match[1]
            found[name] = match[2]
        elif name and line.strip():
            found[name] += " " + line.strip()
    return found


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _read(path: str, kind: type[msgspec.Struct]) -> dict[str, Any]:
    try:
        document = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidError(f"cannot read {path}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise InvalidError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise InvalidError(f"{path}: expected keys and values at the top")
    known = [field.name for field in msgspec.structs.fields(kind)]
    for key in document:
        if key not in known:
            raise InvalidError(f"{path}: unknown key '{key}'{hint_of(str(key), known)}")
    return document


def _from_text(text: str, hint: Any, origin: str) -> Any:
    target = typing.get_origin(hint) or hint
    try:
        if target is tuple:
            return tuple(part.strip() for part in text.split(",") if part.strip())
        if target is dict:
            pairs = (part.partition("=") for part in text.split(",") if part.strip())
            return {key.strip(): value.strip() for key, _, value in pairs}
        if target is bool:
            return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}[
                text.lower()
            ]
        return msgspec.convert(text, hint, strict=False)
    except (KeyError, msgspec.ValidationError) as error:
        wanted = getattr(target, "__name__", str(target))
        raise InvalidError(f"{origin}: '{text}' is not a {wanted}") from error

"""Which cluster is meant, and how it is reached.

Endpoints come from ``--endpoint``, else ``SHOAL_ENDPOINT``; else from the context that
``--context``, else ``SHOAL_CONTEXT``, else the configuration file's ``current`` names; else it is
the local default. Endpoints that are given outright stand alone: a context's TLS files go with
them only if that context was asked for too, so that one cluster's key is never shown to another.

The file (``~/.config/shoal/config.yaml``, else ``/etc/shoal/client.yaml``)::

    current: prod
    contexts:
      prod:
        endpoints: [m1.example:7420, m2.example:7420]
        tls: {ca: /etc/shoal/ca.pem, cert: /etc/shoal/me.pem, key: /etc/shoal/me.key}
"""

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cluster.errors import InvalidError, NotFoundError, did_you_mean

PORT_DEFAULT = 7420
ENDPOINT_DEFAULT = f"127.0.0.1:{PORT_DEFAULT}"
PORT_MAX = 65535

SYSTEM_FILE = Path("/etc/shoal/client.yaml")

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]*[A-Za-z0-9])?")
_TLS_KEYS = ("ca", "cert", "key")


@dataclass(frozen=True, slots=True)
class TlsPaths:
    """PEM files: whom we trust, and what we show of ourselves."""

    ca: str
    cert: str
    key: str


@dataclass(frozen=True, slots=True)
class Context:
    """A cluster that the file knows: managers as "host:port"."""

    endpoints: tuple[str, ...]
    tls: TlsPaths | None = None


@dataclass(frozen=True, slots=True)
class Configuration:
    """What the file says; empty if there is none."""

    path: Path
    current: str = ""
    contexts: Mapping[str, Context] = field(default_factory=dict)

    def context(self, name: str) -> Context:
        """Return a context by name.

        Raises:
            NotFoundError: the file has none of that name.
        """
        if name in self.contexts:
            return self.contexts[name]
        near = did_you_mean(name, self.contexts)
        raise NotFoundError(
            f"no context '{name}' in {self.path};{near} `clusterctl context ls` lists them"
        )


@dataclass(frozen=True, slots=True)
class Target:
    """The managers to talk to."""

    endpoints: tuple[str, ...]
    tls: TlsPaths | None
    origin: str  # what named the endpoints, for messages; empty if that is plain


def user_file(environment: Mapping[str, str]) -> Path:
    """Return where the user's own file is, or would be."""
    if named := environment.get("SHOAL_CONFIG"):
        return Path(named)
    home = environment.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")  # noqa: PTH111
    return Path(home, "shoal", "config.yaml")


def load(environment: Mapping[str, str], system_file: Path = SYSTEM_FILE) -> Configuration:
    """Read the user's file, or if there is none the machine's.

    Raises:
        InvalidError: it cannot be read, or says what it may not; names the key.
    """
    path = user_file(environment)
    if path.exists() or "SHOAL_CONFIG" in environment:
        return read(path)
    return read(system_file) if system_file.exists() else Configuration(path)


def read(path: Path) -> Configuration:
    """Return what the file at *path* says; nothing if it does not exist.

    Raises:
        InvalidError: as ``load``.
    """
    import yaml

    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Configuration(path)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise InvalidError(f"cannot read {path}: {reason}") from error
    except yaml.YAMLError as error:
        raise InvalidError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    reader = _Reader(path)
    top = reader.mapping(document or {}, "", ("current", "contexts"))
    contexts = {
        name: reader.context(value, f"contexts.{name}")
        for name, value in reader.mapping(top.get("contexts") or {}, "contexts").items()
    }
    current = reader.text(top.get("current") or "", "current")
    if current and current not in contexts:
        near = did_you_mean(current, contexts)
        raise InvalidError(f"{path}: current: no context '{current}'{near and ';' + near}")
    return Configuration(path, current, contexts)


def write(configuration: Configuration) -> None:
    """Store the configuration in its file, readable by its owner alone."""
    import yaml

    document: dict[str, Any] = {}
    if configuration.current:
        document["current"] = configuration.current
    document["contexts"] = {
        name: {
            "endpoints": list(context.endpoints),
            **(
                {"tls": {key: getattr(context.tls, key) for key in _TLS_KEYS}}
                if context.tls
                else {}
            ),
        }
        for name, context in configuration.contexts.items()
    }
    path = configuration.path
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(path.name + ".new")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        yaml.safe_dump(document, file, sort_keys=False)
    draft.replace(path)


def resolve(flags: Mapping[str, Any], environment: Mapping[str, str]) -> Target:
    """Decide which managers to talk to.

    Args:
        flags: ``endpoints`` (a sequence), ``context_name``, ``tls_ca``, ``tls_cert``, ``tls_key``;
            those that were given.
        environment: of the process.

    Raises:
        InvalidError: a bad endpoint or file, or only some of the three TLS files.
        NotFoundError: there is no such context.
    """
    name = flags.get("context_name") or environment.get("SHOAL_CONTEXT") or ""
    given = flags.get("endpoints") or ()
    origin = "--endpoint"
    if not given and (text := environment.get("SHOAL_ENDPOINT")):
        given, origin = (text,), "SHOAL_ENDPOINT"
    context = None
    if name or not given:
        configuration = load(environment)
        name = name or configuration.current
        context = configuration.context(name) if name else None
    if given:
        endpoints = parse_endpoints(given, origin)
    elif context is not None:
        endpoints, origin = context.endpoints, f"context '{name}'"
    else:
        endpoints, origin = (ENDPOINT_DEFAULT,), ""
    tls = {
        key: flags.get(f"tls_{key}") or environment.get(f"SHOAL_TLS_{key.upper()}") or ""
        for key in _TLS_KEYS
    }
    source = "" if origin == "--endpoint" else origin
    if any(tls.values()):
        return Target(endpoints, _tls(tls, "--tls-ca, --tls-cert and --tls-key"), source)
    return Target(endpoints, context.tls if context else None, source)


def parse_endpoints(texts: Iterable[str], origin: str) -> tuple[str, ...]:
    """Return "host:port" for each of the comma-separated endpoints; 7420 is the default port.

    Raises:
        InvalidError: one of them is none.
    """
    found = [
        parse_endpoint(part.strip(), origin)
        for text in texts
        for part in text.split(",")
        if part.strip()
    ]
    if not found:
        raise InvalidError(f"{origin} names no endpoint; write HOST:PORT")
    return tuple(dict.fromkeys(found))


def parse_endpoint(text: str, origin: str) -> str:
    """Return one endpoint as "host:port", a v6 address in brackets.

    Raises:
        InvalidError: it is no endpoint.
    """
    match = re.fullmatch(
        r"(\[[0-9A-Fa-f:.]+(?:%[\w.-]+)?\]|[\w.-]+)(?::([0-9]{1,5}))?", text, re.ASCII
    )
    if match is None or (match[2] and not 0 < int(match[2]) <= PORT_MAX):
        raise InvalidError(f"{origin}: '{text}' is no endpoint; write HOST:PORT")
    return f"{match[1]}:{match[2] or PORT_DEFAULT}"


def check_context_name(name: str) -> None:
    """Refuse a name that would not read well in a file or on a command line.

    Raises:
        InvalidError: the name is none.
    """
    if not _NAME.fullmatch(name):
        raise InvalidError(f"context '{name}': use letters, digits, '.', '-' and '_'")


def _tls(values: Mapping[str, str], origin: str) -> TlsPaths:
    if missing := [key for key in _TLS_KEYS if not values.get(key)]:
        raise InvalidError(f"{origin}: TLS needs ca, cert and key; missing: {', '.join(missing)}")
    return TlsPaths(**{key: os.path.expanduser(values[key]) for key in _TLS_KEYS})  # noqa: PTH111


class _Reader:
    """Checks a document's shape; says where it is not as expected."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def mapping(self, value: Any, at: str, known: tuple[str, ...] = ()) -> dict[str, Any]:
        where = at or "the top"
        if not isinstance(value, dict):
            raise InvalidError(f"{self._path}: {where}: expected keys and values")
        for key in value:
            if not isinstance(key, str) or (known and key not in known):
                near = did_you_mean(str(key), known) or f" known are {', '.join(known)}"
                raise InvalidError(f"{self._path}: {where}: unknown key '{key}';{near}")
        return value

    def text(self, value: Any, at: str) -> str:
        if not isinstance(value, str):
            raise InvalidError(f"{self._path}: {at}: expected text, found {value!r}")
        return value

    def context(self, value: Any, at: str) -> Context:
        fields = self.mapping(value, at, ("endpoints", "tls"))
        listed = fields.get("endpoints")
        if isinstance(listed, str):
            listed = [listed]
        if not isinstance(listed, list) or not listed:
            raise InvalidError(f"{self._path}: {at}.endpoints: expected a list of HOST:PORT")
        origin = f"{self._path}: {at}.endpoints"
        endpoints = parse_endpoints([self.text(text, origin) for text in listed], origin)
        tls = None
        if fields.get("tls") is not None:
            part = self.mapping(fields["tls"], f"{at}.tls", _TLS_KEYS)
            texts = {key: self.text(path, f"{at}.tls.{key}") for key, path in part.items()}
            tls = _tls(texts, f"{self._path}: {at}.tls")
        return Context(endpoints, tls)

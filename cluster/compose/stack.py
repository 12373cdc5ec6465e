"""What all services share: declared networks and volumes, the client's environment and files."""

from collections.abc import Callable
from collections.abc import Mapping as Environment

import msgspec

from cluster.compose import catalogue, fields
from cluster.compose.fields import Cursor, Fields, Refused
from cluster.compose.nodes import is_null
from cluster.errors import did_you_mean

ReadFile = Callable[[str], str]

DEFAULT_NETWORK = "default"

# Docker's own networks, that containers get by ``network_mode``.
_FIXED_NETWORKS = ("host", "none", "bridge")
_DRIVERS_REFUSED = dict.fromkeys(
    ("host", "none", "macvlan", "ipvlan"), "tasks are joined by bridges"
)


class Declared(msgspec.Struct, frozen=True, kw_only=True):
    """A network or volume as the files declare it.

    Attributes:
        name: by which hosts know it: the stack's name and the key unless the file says another.
        external: made by someone else: only its name counts.
        bound: of a volume: it lives on certain nodes.
    """

    name: str
    external: bool = False
    bound: bool = False
    driver: str = ""
    driver_options: dict[str, str] = {}
    labels: dict[str, str] = {}


class Stack(msgspec.Struct, frozen=True, kw_only=True):
    """What reading a service may refer to.

    Attributes:
        name: of the stack.
        services: the keys of those that are deployed.
        networks, volumes: by their key in the files.
        environment: where the files are deployed.
        read: returns a file's text by its absolute path; raises ``OSError`` or ``ValueError``.
    """

    name: str
    services: frozenset[str]
    networks: dict[str, Declared]
    volumes: dict[str, Declared]
    environment: Environment[str, str]
    read: ReadFile


def declarations(top: Fields, name: str) -> tuple[dict[str, Declared], dict[str, Declared]]:
    """Return the networks, the default one always among them, and the volumes."""
    networks = {
        DEFAULT_NETWORK: Declared(name=f"{name}_{DEFAULT_NETWORK}"),
        **_each(top, "networks", _network, name),
    }
    return networks, _each(top, "volumes", _volume, name)


def _each(
    top: Fields, section: str, read: Callable[[Cursor, str], Declared], stack: str
) -> dict[str, Declared]:
    if section not in top:
        return {}
    found: dict[str, Declared] = {}
    try:
        for key, child in top.at(section).children():
            found[key] = Declared(name=f"{stack}_{key}")  # so that services may refer to it
            if is_null(child.node):
                continue
            try:
                found[key] = read(child, f"{stack}_{key}")
            except Refused:
                continue
    except Refused:
        pass
    return found


def _network(cursor: Cursor, full_name: str) -> Declared:
    network = Fields(cursor, catalogue.NETWORK)
    external = network.get("external", fields.boolean, False)
    name = network.get("name", fields.some_text, _own_name(cursor) if external else full_name)
    if external and name in _FIXED_NETWORKS:
        raise cursor.refused(f"use `network_mode: {name}` in the service instead")
    if external:
        cursor.warn(
            f"{name!r} has to be a network of the cluster, such as another stack's: a task is "
            "refused by a host that has one from elsewhere"
        )
    drivers = {"bridge": "bridge", "overlay": "overlay"}
    driver = network.get("driver", fields.choice(drivers, _DRIVERS_REFUSED), "bridge")
    if driver == "overlay":
        network.at("driver").warn(
            "there are no overlays yet: the network is a bridge on each host, and tasks on "
            "different hosts do not reach each other by it"
        )
    return Declared(name=name, external=external)


def _volume(cursor: Cursor, full_name: str) -> Declared:
    volume = Fields(cursor, catalogue.VOLUME)
    external = volume.get("external", fields.boolean, False)
    name = volume.get("name", fields.some_text, _own_name(cursor) if external else full_name)
    ours = volume.section(catalogue.EXTENSION, catalogue.OURS_OF_VOLUME)
    bound = ours.get("bound", fields.boolean, False)
    if external:
        for key in ("driver", "driver_opts", "labels"):
            if key in volume:
                child = volume.at(key)
                message = "has no use for an external volume, which is there already"
                child.report.problem(volume.key_position(key), child.path, message)
        if not bound:
            cursor.warn(
                f"a host without a volume {name!r} makes an empty one: it is not checked yet"
            )
        return Declared(name=name, external=True, bound=bound)
    return Declared(
        name=name,
        bound=bound,
        driver=volume.get("driver", fields.some_text, ""),
        driver_options=volume.get("driver_opts", fields.map_of(fields.any_text), {}),
        labels=volume.get("labels", fields.map_of(fields.any_text), {}),
    )


def _own_name(cursor: Cursor) -> str:
    return cursor.path.partition(".")[2]


def declared(
    cursor: Cursor, name: str, known: Environment[str, Declared], section: str
) -> Declared:
    """Return what *section* of the files declares as *name*; refused if it declares no such."""
    if name not in known:
        near = did_you_mean(name, known) or f" declare it under the file's own `{section}`"
        raise cursor.refused(f"there is no {name!r} under {section};{near}")
    return known[name]


def file_text(read: ReadFile, path: str, asked_by: Cursor) -> str:
    """Return a file's text; refused where it is asked for if there is none."""
    text = optional_file_text(read, path, asked_by)
    if text is None:
        raise asked_by.refused(f"there is no file {path}")
    return text


def optional_file_text(read: ReadFile, path: str, asked_by: Cursor) -> str | None:
    """Return a file's text, None if there is no such file; refused if it cannot be read."""
    try:
        return read(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except UnicodeDecodeError:
        raise asked_by.refused(f"{path} is no text: it has to be written in UTF-8") from None
    except OSError as error:
        raise asked_by.refused(f"cannot read {path}: {error.strerror or error}") from None
    except ValueError as error:
        raise asked_by.refused(f"cannot read {path}: {error}") from None

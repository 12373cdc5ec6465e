"""The mounts of a service."""

from cluster.compose import catalogue, fields
from cluster.compose.fields import Cursor, Fields
from cluster.compose.nodes import string
from cluster.compose.stack import Declared, Stack, declared
from cluster.model import Mount, MountKind


def mounted(service: Fields, stack: Stack) -> tuple[Mount, ...]:
    """Return the mounts of ``volumes``, then those of ``tmpfs``."""
    return (
        *service.get("volumes", fields.list_of(lambda cursor: _mount(cursor, stack)), ()),
        *service.get("tmpfs", fields.list_of(_short_tmpfs), ()),
    )


# A volume that lasts as long as its container.
_NAMELESS = Declared(name="")

_MOUNT_KINDS = {kind.value: kind for kind in MountKind}
_MOUNT_KINDS_REFUSED = {
    "cluster": "there are no cluster volumes yet",
    "image": "images cannot be mounted yet",
    "npipe": "it is for Windows hosts",
}


def _mount(cursor: Cursor, stack: Stack) -> Mount:
    mount = Fields(cursor, catalogue.MOUNT)
    if "type" not in mount:
        raise cursor.refused(f"expected a type, one of {', '.join(_MOUNT_KINDS)}")
    try:
        kind = fields.choice(_MOUNT_KINDS, _MOUNT_KINDS_REFUSED)(mount.at("type"))
        target = fields.some_text(mount.at("target")) if "target" in mount else ""
    finally:  # the rest is looked at even so, for its own problems
        bind = mount.section("bind", catalogue.MOUNT_BIND)
        volume = mount.section("volume", catalogue.MOUNT_VOLUME)
        tmpfs = mount.section("tmpfs", catalogue.MOUNT_TMPFS)
    if not target:
        raise cursor.refused("expected a target, the path in the container")
    for other in _MOUNT_KINDS:
        if other in mount and other != kind.value:
            mount.at(other).report.problem(
                mount.key_position(other), mount.at(other).path, f"has no use for a {kind.value}"
            )
    source = mount.get("source", fields.text, "")
    read_only = mount.get("read_only", fields.boolean, False)
    if kind is MountKind.BIND:
        return Mount(
            kind=kind,
            target=target,
            source=source,
            read_only=read_only,
            create_host_path=bind.get("create_host_path", fields.boolean, True),
            propagation=bind.get("propagation", fields.text, ""),
        )
    if kind is MountKind.TMPFS:
        return Mount(
            kind=kind,
            target=target,
            source=source,
            read_only=read_only,
            tmpfs_size_bytes=tmpfs.get("size", fields.size, 0),
            tmpfs_mode=tmpfs.get("mode", fields.permissions, 0),
        )
    volume_of = _NAMELESS
    if source:
        volume_of = declared(mount.at("source"), source, stack.volumes, "volumes")
    labels = volume.get("labels", fields.map_of(fields.any_text), {})
    return Mount(
        kind=kind,
        target=target,
        source=volume_of.name,
        read_only=read_only,
        no_copy=volume.get("nocopy", fields.boolean, False),
        bound=volume_of.bound,
        driver=volume_of.driver,
        driver_options=volume_of.driver_options,
        labels={**volume_of.labels, **labels},
    )


def _short_tmpfs(cursor: Cursor) -> Mount:
    """``TARGET[:size=64m,mode=1777]``."""
    target, _, options = fields.some_text(cursor).partition(":")
    size = mode = 0
    for option in options.split(",") if options else ():
        name, _, value = option.partition("=")
        if name == "size":
            size = fields.size(_part(cursor, value))
        elif name == "mode":  # as with mount(8), always octal
            mode = fields.permissions(_part(cursor, f"0{value}"))
        else:
            raise cursor.refused(
                f"the option {option!r} is not supported; there are size=SIZE and mode=MODE"
            )
    return Mount(kind=MountKind.TMPFS, target=target, tmpfs_size_bytes=size, tmpfs_mode=mode)


def _part(cursor: Cursor, value: str) -> Cursor:
    return Cursor(string(value, cursor.node.at), cursor.path, cursor.report)

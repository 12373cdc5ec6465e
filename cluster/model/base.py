"""Identities, and what all objects have in common."""

from typing import NewType

import msgspec

ClusterId = NewType("ClusterId", str)
ManagerId = NewType("ManagerId", str)
NodeId = NewType("NodeId", str)
ServiceId = NewType("ServiceId", str)
SessionId = NewType("SessionId", str)
StackId = NewType("StackId", str)
TaskId = NewType("TaskId", str)

NO_NODE = NodeId("")


class Value(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A part of an object: compared by content, never changed in place."""


class Object(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A stored object.

    Attributes:
        version: the store's revision that last changed it, 0 before it is stored. Not part of
            the stored bytes: whoever reads the object sets it from the key.
    """

    version: int = 0

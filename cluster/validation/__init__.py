"""What a service must be to be accepted, wherever it comes from.

The manager asks on every submit, whatever client sent it; ``cluster.compose`` asks too, so that
a file's author sees the same sentence with the line it is about. Everything is found at once:
each flaw names its field as a path into ``ServiceSpec`` and says what is expected there.

Only what can never work is a flaw: a value that no host could honour, or that Docker or the
kernel is known to refuse. Whether an image, a node or a volume exists is not asked here.

To add a rule, yield a ``Flaw`` from the function of the part it is about: in ``placement`` for
where tasks run and in what order, else in ``services``.
"""

from cluster.validation.flaws import NAME_CHARACTERS_MAX, Flaw, check_name, name_flaw
from cluster.validation.nodes import check_node
from cluster.validation.services import (
    FLAWS_TOLD_MAX,
    MEMORY_LIMIT_BYTES_MIN,
    PORT_MAX,
    PROPAGATIONS,
    PROTOCOLS,
    check_service,
    service_flaws,
)

__all__ = [
    "FLAWS_TOLD_MAX",
    "MEMORY_LIMIT_BYTES_MIN",
    "NAME_CHARACTERS_MAX",
    "PORT_MAX",
    "PROPAGATIONS",
    "PROTOCOLS",
    "Flaw",
    "check_name",
    "check_node",
    "check_service",
    "name_flaw",
    "service_flaws",
]

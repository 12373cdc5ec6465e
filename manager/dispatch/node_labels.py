"""Labels that users give to nodes: what can be stored, and named in a constraint."""

from collections.abc import Mapping

from cluster import constraints
from cluster.errors import InvalidError

# A node's record is read with every other; labels are for telling nodes apart, not for data.
LABELS_MAX = 100
VALUE_CHARACTERS_MAX = 1_000
NAME_CHARACTERS_MAX = 250


def check_labels(labels: Mapping[str, str]) -> None:
    """Refuse labels that no node may have.

    Raises:
        InvalidError: what is wrong with the first that is.
    """
    if len(labels) > LABELS_MAX:
        raise InvalidError(f"a node takes at most {LABELS_MAX} labels, these are {len(labels)}")
    for name, value in labels.items():
        _check_name(name)
        if len(value) > VALUE_CHARACTERS_MAX or not value.isprintable():
            raise InvalidError(
                f"the value of label '{name}' must be printable and have at most"
                f" {VALUE_CHARACTERS_MAX} characters"
            )


def _check_name(name: str) -> None:
    try:
        constraints.parse(f"{constraints.NODE_LABELS}{name} == x")
    except InvalidError as error:
        raise InvalidError(f"{name!r} cannot be a label: {error}") from error
    if len(name) > NAME_CHARACTERS_MAX:
        raise InvalidError(f"a label's name has at most {NAME_CHARACTERS_MAX} characters")

"""What differs between two specs, in words short enough for an error's or an event's sentence."""

import msgspec

from cluster.differences import Difference
from cluster.differences import differences as all_differences

# More would not be read; the user looks at the object anyway.
SHOWN_MAX = 5
VALUE_CHARACTERS_MAX = 40


def differences(old: msgspec.Struct, new: msgspec.Struct) -> str:
    """Return the fields that differ, such as ``replicas (3, now 5)``; empty if none does."""
    found = list(dict.fromkeys(map(_told, all_differences(old, new))))
    more = len(found) - SHOWN_MAX
    return ", ".join(found[:SHOWN_MAX]) + (f" and {more} more" if more > 0 else "")


def _told(each: Difference) -> str:
    if each.hidden or max(len(each.before), len(each.after)) > VALUE_CHARACTERS_MAX:
        return each.path
    return f"{each.path} ({each.before or 'unset'}, now {each.after or 'unset'})"

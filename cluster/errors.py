"""The errors of the whole system, grouped by what the one who gets them should do.

    ClusterError
    ├── InvalidError        mend the request: it can never work as it is
    ├── NotFoundError       name something that exists
    ├── ConflictError       look again, then decide anew: the world has moved on
    │   └── (store) GuardFailedError, LeaseGoneError
    ├── ExistsError         choose another name
    ├── StateError          bring it into another state first
    ├── ForbiddenError      ask someone who may
    ├── UnavailableError    try again later, perhaps elsewhere
    │   ├── OverloadedError       and more slowly
    │   └── (store) StoreUnavailableError
    └── InternalError       a defect or a broken assumption of ours: report it

A message says what happened, with values, then the next step. "Cannot place a task" is not
an error: it is a value with counted reasons (``scheduler.plan.Unplaced``).
"""

import difflib
from collections.abc import Iterable


class ClusterError(Exception):
    """Any refusal or failure that a user may see."""


class InvalidError(ClusterError):
    """The request can never work as it is."""


class NotFoundError(ClusterError):
    """Nothing goes by that name or id."""


class ConflictError(ClusterError):
    """What the caller had seen is no longer so."""


class ExistsError(ClusterError):
    """The name is in use."""


class StateError(ClusterError):
    """The object is not in a state in which that can be done."""


class ForbiddenError(ClusterError):
    """The caller may not do that."""


class UnavailableError(ClusterError):
    """Something that is needed does not answer now."""


class OverloadedError(UnavailableError):
    """Too much was asked at once, or the caller reads too slowly."""


class InternalError(ClusterError):
    """A defect or a broken assumption of ours."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `` did you mean 'x'?`` with a leading space, or nothing if none is near."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f" did you mean '{near[0]}'?" if near else ""

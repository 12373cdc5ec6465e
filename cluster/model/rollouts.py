"""Rollouts: how far a service's template has reached its places, and what came of it."""

from enum import Enum

from cluster.model.base import Object, ServiceId


class RolloutState(Enum):
    """What a rollout is at.

    Attributes:
        settled: nothing is to be moved any more.
        failed: it did not come to what was asked for.
    """

    settled: bool
    failed: bool

    UPDATING = "updating"  # places get the new template, a few at a time
    CANARY = "canary"  # the first few have it; the others wait for a word
    PAUSED = "paused"  # too many failed, or an operator holds it
    COMPLETED = "completed"  # every place has it
    ROLLING_BACK = "rolling-back"  # it failed: places get the last healthy version again
    ROLLED_BACK = "rolled-back"  # they have it
    ROLLBACK_PAUSED = "rollback-paused"  # that failed, too

    def __init__(self, value: str) -> None:
        self.settled = value in ("completed", "rolled-back")
        self.failed = value in ("paused", "rolling-back", "rolled-back", "rollback-paused")


class Rollout(Object, frozen=True):
    """Where the rollout of a service stands. Written by the leader alone.

    Attributes:
        spec_version: of the service, that it answers to. A later one with the same template
            is answered by it too.
        target: the version that places are brought to; after a failure an earlier one.
        base: the version of places whose turn has not come; 0 if there is none worth keeping.
        message: why it is where it is, for people.
        failed: places (slots, or ids of nodes) in which the target has failed, while it is under
            way.
        healthy: the versions that were rolled out completely and ran well, the newest last, a
            bounded number of them.
        promoted: the canary was found good.
        started_at: when the target was set, or an operator let it go on: failures count from
            there.
        changed_at: when the state last changed.
        resumed_at: ``Service.resumed_at`` as it was last followed.
    """

    service_id: ServiceId
    spec_version: int = 0
    target: int = 0
    base: int = 0
    state: RolloutState = RolloutState.COMPLETED
    message: str = ""
    failed: tuple[str, ...] = ()
    healthy: tuple[int, ...] = ()
    promoted: bool = False
    started_at: float = 0.0
    changed_at: float = 0.0
    resumed_at: float = 0.0

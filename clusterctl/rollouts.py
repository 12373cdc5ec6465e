"""What a rollout means to somebody who waits for its service. Pure.

The leader decides what becomes of a rollout and says so in its ``Rollout``. So while one is under
way nobody else judges: tasks that fail are its business, and that all run is not the end yet, as
they are still watched for a while.
"""

from dataclasses import replace

from cluster.lifecycle import needs_replacing
from cluster.model import FailureAction, Rollout, RolloutState, Service
from clusterctl.replicas import Progress
from clusterctl.view import View

_ENDED_BADLY = (RolloutState.PAUSED, RolloutState.ROLLED_BACK, RolloutState.ROLLBACK_PAUSED)


def judged(view: View, service: Service, progress: Progress) -> Progress:
    """Return *progress* of a service as its rollout lets it be."""
    rollout = view.rollouts.get(service.id)
    if rollout is None:  # nothing has run well yet: what runs is all there is to say
        return progress
    if not answers(view, service, rollout) or _has_unheard_word(service, rollout):
        return replace(progress, done=False, failure="")  # the leader has not looked yet
    name, message = service.spec.name, rollout.message
    match rollout.state:
        case RolloutState.COMPLETED:
            return progress
        case state if state in _ENDED_BADLY:
            return replace(progress, done=False, failure=f"{name}: {message}")
        case RolloutState.CANARY if not service.spec.update.promote_after_seconds:
            return replace(progress, done=True, failure="", note=f"{name}: {message}")
    update = service.spec.rollback if service.rolls_back else service.spec.update
    is_judged = (
        rollout.state is not RolloutState.UPDATING
        or update.failure_action is not FailureAction.CONTINUE
    )
    waiting = (*progress.waiting, (f"{name}:", message)) if message else progress.waiting
    return replace(
        progress,
        done=False,
        doing=progress.doing or (("watched for a while", progress.reached),),
        waiting=waiting,
        failure="" if is_judged else progress.failure,
    )


def answers(view: View, service: Service, rollout: Rollout) -> bool:
    """Tell whether the rollout is of the template that the service has now."""
    if rollout.spec_version == service.spec_version:
        return True
    version = view.versions.get((service.id, rollout.spec_version))
    return version is not None and not needs_replacing(version.spec.task, service.spec.task)


def _has_unheard_word(service: Service, rollout: Rollout) -> bool:
    """Tell whether an operator has said something that the leader has yet to follow."""
    if rollout.state in (RolloutState.PAUSED, RolloutState.ROLLBACK_PAUSED):
        return not service.paused and service.resumed_at != rollout.resumed_at
    if rollout.state is RolloutState.CANARY:
        return service.promoted_version == service.spec_version
    return False

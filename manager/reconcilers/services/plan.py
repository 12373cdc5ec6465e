"""The plan for one service: the right number of tasks, each of the right version.

A place has at most one task that serves. Whatever ends a task, its successor is made in the same
place by the same rules: it may be made ready at once (image pulled, container created), but it
starts only when its predecessors have ended and its restart delay has passed. In an update that
goes start-first it may run beside the one task that it is to replace (I2).

``plan`` is pure: facts in, changes out.
"""

import msgspec

from cluster.model import Rollout
from manager.committer import Change
from manager.reconcilers.loop import Plan
from manager.reconcilers.services.facts import Facts
from manager.reconcilers.services.moves import Moves
from manager.reconcilers.services.places import survey
from manager.reconcilers.services.rollout import (
    ACTIVE,
    course,
    judged,
    same_but_numbers,
)
from manager.reconcilers.services.tasks import discard
from manager.reconcilers.services.turns import Turns


def plan(facts: Facts) -> Plan:
    """Return the changes that bring the service nearer to its spec; none when all is well."""
    waits: list[float] = []
    asked = course(facts)
    look = survey(facts, asked)
    rollout = judged(look, waits)
    turns_back = rollout.target != asked.target  # then everything is to be looked at anew
    look = survey(facts, rollout) if turns_back else look.with_rollout(rollout)
    turns = Turns(look)
    turns.take()
    moves = Moves(look, turns)
    moves.take()
    gone = [
        change
        for stand in look.surplus
        for task in (*stand.history, *stand.leaving)
        for change in discard(task, "its place is no longer wanted")
    ]
    rollout = _noted(rollout, turns.note)
    changes = [
        *(*gone, *turns.changes, *moves.changes),
        *_saved(facts, rollout, look.gate(rollout.target)),
    ]
    return Plan(changes, min((*waits, *turns.waits, *moves.waits), default=None))


def _noted(rollout: Rollout, note: str) -> Rollout:
    """Add to the message what people should know; the first word of a kind is enough."""
    if not note or rollout.state not in ACTIVE or note.split(" ", 1)[0] in rollout.message:
        return rollout
    return msgspec.structs.replace(rollout, message=f"{rollout.message}; {note}")


def _saved(facts: Facts, rollout: Rollout, gate: str) -> list[Change]:
    """Return what stores the rollout, if it is news; *gate* says what it waits for."""
    known = facts.rollout
    if known is None:
        if not rollout.base and not rollout.healthy:
            return []  # nothing has run well yet, and nothing is to be replaced
    elif same_but_numbers(facts, rollout, known):
        return []
    why = rollout.message or f"the rollout is {rollout.state.value}"
    return [Change(save=(rollout,), why=f"{why}{gate}")]

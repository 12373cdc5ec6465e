"""The course of a rollout: what it aims at, whether it goes well, and what follows if not.

Two steps, both pure. ``course`` compares the service with the rollout as it stands in the store:
another template begins a rollout, an operator's word lets one pause or go on. ``judged`` then
looks at the places and says what became of it:

    updating ──► (canary ──►) completed
        │ too many failed
        ├──► paused ──► an operator resumes, or asks for something else
        └──► rolling back to the last healthy version ──► rolled back, or paused there

A place fails when a task of the target ended before it ran, or within the monitor period of
that, or came no further for the progress deadline. A lost node is nobody's failure.
"""

from collections.abc import Iterator, Sequence

import msgspec

from cluster import lifecycle
from cluster.model import (
    FailureAction,
    NodeId,
    RestartCondition,
    Rollout,
    RolloutState,
    ServiceMode,
    Task,
    TaskState,
    UpdateConfig,
)
from cluster.quantities import format_duration
from manager.reconcilers import restart
from manager.reconcilers.services.facts import Facts
from manager.reconcilers.services.places import Stand, Survey, is_running
from manager.reconcilers.services.tasks import TICK_SECONDS, delay_left

HEALTHY_KEPT_MAX = 10  # versions to go back to; one takes a few bytes here, its spec stays too
FAILED_KEPT_MAX = 10_000  # places; beyond that their number is no news to anybody
REASON_CHARACTERS_MAX = 200  # of one task's error within the sentence about all of them

RETURNS = (RolloutState.ROLLING_BACK, RolloutState.ROLLED_BACK, RolloutState.ROLLBACK_PAUSED)
HALTED = (RolloutState.PAUSED, RolloutState.ROLLBACK_PAUSED)
ACTIVE = (RolloutState.UPDATING, RolloutState.CANARY, RolloutState.ROLLING_BACK)

_replace = msgspec.structs.replace


def config_of(facts: Facts, rollout: Rollout) -> UpdateConfig:
    """Return how *rollout* goes about it."""
    spec = facts.service.spec
    is_return = rollout.state in RETURNS or facts.service.rolls_back
    return spec.rollback if is_return else spec.update


# --- what is asked for ---


def course(facts: Facts) -> Rollout:
    """Return the rollout as it is asked for now, by whatever numbers the versions have.

    While nothing has run well yet and nothing is outdated there is none in the store: then this
    is one that never moves anything.
    """
    known = facts.rollout
    if known is None or not _answers(facts, known):
        return _begun(facts, known)
    number = facts.service.spec_version
    target = known.target if known.state in RETURNS else number
    return _steered(facts, _replace(known, spec_version=number, target=target))


def same_but_numbers(facts: Facts, one: Rollout, other: Rollout) -> bool:
    """Tell whether two courses differ at most in numbers of versions that are alike."""
    if not (
        facts.alike(one.spec_version, other.spec_version) and facts.alike(one.target, other.target)
    ):
        return False
    return _replace(one, spec_version=other.spec_version, target=other.target) == other


def _answers(facts: Facts, known: Rollout) -> bool:
    """Tell whether the rollout is of the template that is asked for."""
    return facts.alike(known.spec_version, facts.service.spec_version)


def _begun(facts: Facts, known: Rollout | None) -> Rollout:
    number = facts.service.spec_version
    begun = Rollout(
        version=known.version if known else 0,
        service_id=facts.service.id,
        spec_version=number,
        target=number,
        state=RolloutState.UPDATING,
        healthy=known.healthy if known else (),
        resumed_at=facts.service.resumed_at,
    )
    base = _base(facts, begun.healthy)
    if known is None and not base:
        return begun
    message = f"version {number} replaces version {base}" if base else f"version {number}"
    started_at = _now_after_all(facts)
    return _replace(begun, base=base, message=message, started_at=started_at, changed_at=facts.now)


def _base(facts: Facts, healthy: Sequence[int]) -> int:
    """Return what a place has whose turn has not come: what ran well last, else what runs."""
    number = facts.service.spec_version
    if healthy and facts.template(healthy[-1]) is not None:
        base = newest_alike(facts, healthy[-1], number)
    else:
        running = {task.spec_version for task in facts.tasks if is_running(task)}
        base = max((each for each in running if facts.template(each) is not None), default=0)
    return 0 if not base or facts.alike(base, number) else base


def newest_alike(facts: Facts, number: int, before: int) -> int:
    """Return the newest version before *before* that is like *number*.

    What lies between them, such as another constraint, was asked for and ran as well.
    """
    found = number
    for each in sorted(facts.versions):
        if number < each < before and facts.alike(number, each):
            found = each
    return found


def _steered(facts: Facts, rollout: Rollout) -> Rollout:
    """Follow what an operator has said about it."""
    service = facts.service
    if service.paused and rollout.state in ACTIVE:
        return _moved(
            facts,
            rollout,
            _paused(rollout.state),
            f"paused by an operator: `clusterctl service resume {service.spec.name}` goes on",
        )
    if service.resumed_at != rollout.resumed_at and not service.paused:
        rollout = _replace(rollout, resumed_at=service.resumed_at)
        if rollout.state in HALTED:
            is_return = rollout.state is RolloutState.ROLLBACK_PAUSED
            state = RolloutState.ROLLING_BACK if is_return else RolloutState.UPDATING
            rollout = _replace(rollout, failed=(), started_at=_now_after_all(facts))
            return _moved(facts, rollout, state, "resumed by an operator")
    return rollout


def _paused(state: RolloutState) -> RolloutState:
    is_return = state is RolloutState.ROLLING_BACK
    return RolloutState.ROLLBACK_PAUSED if is_return else RolloutState.PAUSED


def _now_after_all(facts: Facts) -> float:
    """Return now; later than all tasks, though the clock went back: what comes is told by it."""
    made = (task.created_at + TICK_SECONDS for task in facts.tasks)
    return max([facts.now, *made])


def _moved(facts: Facts, rollout: Rollout, state: RolloutState, message: str) -> Rollout:
    return _replace(rollout, state=state, message=message, changed_at=facts.now)


# --- what came of it ---


def judged(look: Survey, waits: list[float]) -> Rollout:
    """Return *look*'s rollout as the places say it has to go on; add when to look again."""
    rollout = look.rollout
    if rollout.state.settled:
        return rollout
    if _is_first(look):
        return _settled(look, waits)
    failures = dict(_failures(look, waits))
    failed = tuple(sorted({*rollout.failed, *failures})[:FAILED_KEPT_MAX])
    told = _told(look, failed, failures)
    rollout = _replace(rollout, failed=failed)
    if rollout.state in HALTED:
        return rollout  # what fails now was under way; it is known by that what to do about it
    look = look.with_rollout(rollout)
    config = config_of(look.facts, rollout)
    if len(failed) > config.max_failure_ratio * max(1, len(look.stands)):
        match config.failure_action:
            case FailureAction.PAUSE:
                return _gives_up(look, told)
            case FailureAction.ROLLBACK:
                return _returns(look, told)
            case FailureAction.CONTINUE:
                pass
    if told and failures:
        rollout = _replace(rollout, message=told)
        look = look.with_rollout(rollout)
    return _settled(look, waits)


def _is_first(look: Survey) -> bool:
    """Tell whether nothing was ever rolled out: nothing is to be protected, or gone back to."""
    return look.facts.rollout is None and look.rollout.base == 0


def _gives_up(look: Survey, told: str) -> Rollout:
    name = look.facts.service.spec.name
    return _moved(
        look.facts,
        look.rollout,
        _paused(look.rollout.state),
        f"{told}: paused; `clusterctl service resume {name}` tries again,"
        f" `clusterctl service rollback {name}` goes back",
    )


def _returns(look: Survey, told: str) -> Rollout:
    rollout, facts = look.rollout, look.facts
    good = next(
        (
            number
            for number in reversed(rollout.healthy)
            if facts.template(number) is not None and not facts.alike(number, rollout.target)
        ),
        0,
    )
    if not good:
        return _gives_up(look, f"{told}, and no version before it ever ran well")
    target = newest_alike(facts, good, rollout.target)
    back = _replace(
        rollout,
        target=target,
        base=0,
        failed=(),
        promoted=False,
        started_at=_now_after_all(facts),
    )
    return _moved(
        facts, back, RolloutState.ROLLING_BACK, f"{told}: rolling back to version {target}"
    )


def _settled(look: Survey, waits: list[float]) -> Rollout:
    """Return the rollout, ended or waiting for a word if it has come to that."""
    rollout = look.rollout
    undone = [
        stand
        for stand in reachable(look)
        if stand.place not in rollout.failed and not _is_done(look, stand)
    ]
    if not undone:
        return _completed(look) if _needs_base_no_more(look) else rollout
    held = canary_of(look)
    if held:
        begun = [stand for stand in reachable(look) if is_begun(look, stand)]
        if len(begun) >= held and all(_is_done(look, stand) for stand in begun):
            return _held(look, begun, held, waits)
        undone = [stand for stand in begun if not _is_done(look, stand)]
    elif rollout.state is RolloutState.CANARY:
        promoted = _replace(rollout, promoted=True)
        return _moved(look.facts, promoted, RolloutState.UPDATING, "the canary was found good")
    if undone and all(_runs_as_asked(look, stand) for stand in undone):
        waits.append(max(_monitor_left(look, stand) for stand in undone))
    return rollout


def _needs_base_no_more(look: Survey) -> bool:
    """Tell whether what ran well before is not all there is, once failed places are borne.

    Where the target has failed everywhere it is tried on; to forget the base would take its last
    task for a version that never ran well.
    """
    if not look.rollout.failed or any(_is_done(look, stand) for stand in look.stands):
        return True
    holders = (stand.holder for stand in look.stands)
    return not any(holder and is_running(holder) and look.is_base(holder) for holder in holders)


def _completed(look: Survey) -> Rollout:
    rollout = look.rollout
    running = any(is_running(stand.holder) for stand in look.stands)
    if rollout.state is RolloutState.ROLLING_BACK:
        message = rollout.message.replace(": rolling back to", ": rolled back to")
        return _ended(look, RolloutState.ROLLED_BACK, message)
    if rollout.failed:
        return _ended(look, RolloutState.COMPLETED, rollout.message)
    if running:
        kept = [n for n in rollout.healthy if not look.facts.alike(n, rollout.target)]
        rollout = _replace(rollout, healthy=(*kept, rollout.target)[-HEALTHY_KEPT_MAX:])
    elif _is_first(look):
        return rollout
    return _ended(look.with_rollout(rollout), RolloutState.COMPLETED, "")


def _ended(look: Survey, state: RolloutState, message: str) -> Rollout:
    rollout = _replace(look.rollout, base=0, failed=(), promoted=False)
    return _moved(look.facts, rollout, state, message)


def _held(look: Survey, begun: Sequence[Stand], held: int, waits: list[float]) -> Rollout:
    """Return the rollout waiting for a word about its canary, or going on because it is good."""
    rollout, facts = look.rollout, look.facts
    after = config_of(facts, rollout).promote_after_seconds
    name = facts.service.spec.name
    ran = min(_proved_seconds(look, stand) for stand in begun)
    if after and ran >= after:
        promoted = _replace(rollout, promoted=True)
        message = f"the canary ran well for {format_duration(after)}"
        return _moved(facts, promoted, RolloutState.UPDATING, message)
    if after:
        waits.append(after - ran)
    if rollout.state is RolloutState.CANARY:
        return rollout
    by_itself = f", or goes on by itself after {format_duration(after)}" if after else ""
    message = (
        f"{held} of {len(look.stands)} places run version {rollout.target}: waits for"
        f" `clusterctl service promote {name}` or `clusterctl service rollback {name}`{by_itself}"
    )
    return _moved(facts, rollout, RolloutState.CANARY, message)


def canary_of(look: Survey) -> int:
    """Return at how many places the rollout stops for a word; 0 if it does not."""
    rollout, service = look.rollout, look.facts.service
    if rollout.state in RETURNS or service.rolls_back or rollout.promoted:
        return 0
    if rollout.state.settled or service.promoted_version >= rollout.spec_version:
        return 0
    canary = service.spec.update.canary
    return canary if canary < len(look.stands) and not _is_first(look) else 0


def is_begun(look: Survey, stand: Stand) -> bool:
    """Tell whether the place has the target, or is about to get it, or was to and failed."""
    if stand.holder is None:
        last = stand.last
        return last is not None and lifecycle.wanted(last) and look.complies(last)
    return (
        look.complies(stand.holder)
        or stand.successor is not None
        or stand.place in look.rollout.failed
    )


def reachable(look: Survey) -> Iterator[Stand]:
    """Yield the places that a rollout can do something about."""
    for stand in look.stands:
        if look.is_open(stand):
            yield stand


def _is_done(look: Survey, stand: Stand) -> bool:
    """Tell whether the place has what it shall have, and has had it for the monitor period."""
    if stand.holder is None:
        return ended_for_good(look, stand)
    return _runs_as_asked(look, stand) and _monitor_left(look, stand) <= 0


def _runs_as_asked(look: Survey, stand: Stand) -> bool:
    holder = stand.holder
    return holder is not None and is_running(holder) and look.complies(holder)


def _monitor_left(look: Survey, stand: Stand) -> float:
    return config_of(look.facts, look.rollout).monitor_seconds - _ran_seconds(look, stand)


def _ran_seconds(look: Survey, stand: Stand) -> float:
    holder = stand.holder
    return (look.facts.sighting(holder).running_seconds or 0.0) if holder else 0.0


def _proved_seconds(look: Survey, stand: Stand) -> float:
    """Return for how long the place has had what it shall have: a program's good end counts on."""
    if stand.holder is not None or stand.last is None:
        return _ran_seconds(look, stand)
    seen = look.facts.sighting(stand.last)
    return (seen.running_seconds or 0.0) + seen.unchanged_seconds


def ended_for_good(look: Survey, stand: Stand) -> bool:
    last = stand.last
    if last is None or not lifecycle.wanted(last) or not look.complies(last):
        return False
    policy = look.template.restart
    return not restart.may_restart(policy, last, stand.history, look.facts.now)


# --- failures ---


def _failures(look: Survey, waits: list[float]) -> Iterator[tuple[str, str]]:
    """Yield the places in which the target has failed, and why."""
    config = config_of(look.facts, look.rollout)
    for stand in reachable(look):
        for task in stand.history:
            if task.created_at < look.rollout.started_at:
                break
            if not look.complies(task):
                continue
            if task.status.state.finished:
                reason = _bad_end(look, task, config)
            else:
                reason = _stuck(look, stand, task, config, waits)
            if reason:
                yield stand.place, reason
                break


def _bad_end(look: Survey, task: Task, config: UpdateConfig) -> str:
    """Return why the end of *task* counts against its version; empty if it does not."""
    status = task.status
    if not lifecycle.wanted(task):
        return ""
    if status.state is TaskState.COMPLETE:
        if look.template.restart.condition is not RestartCondition.ANY:
            return ""
    elif status.state not in (TaskState.FAILED, TaskState.REJECTED):
        return ""
    seen = look.facts.sighting(task)
    if seen.is_whole:
        ran = seen.running_seconds
        early = ran is None or ran < config.monitor_seconds
    else:  # a leader before this one saw it; the records tell how long it lasted in all
        lasted = status.at - max(task.created_at, task.start_after)
        early = lasted <= config.monitor_seconds
    if not early and look.rollout.state is not RolloutState.CANARY:
        return ""
    reason = status.error or status.message or f"ended ({status.state.value})"
    return reason[:REASON_CHARACTERS_MAX]


def _stuck(look: Survey, stand: Stand, task: Task, config: UpdateConfig, waits: list[float]) -> str:
    """Return how *task* fails to come to run; empty while it may."""
    deadline = config.progress_deadline_seconds
    if not deadline or not lifecycle.live(task) or is_running(task):
        return ""
    facts = look.facts
    if delay_left(facts, task) > 0:
        return ""
    if task is stand.holder and _is_prepared(task):
        return ""  # it may be let to start at any moment; what it depends on was not there yet
    others = (other for other in stand.occupants() if other is not task)
    if any(not lifecycle.wanted(other) for other in others):
        return ""  # it waits for a predecessor to stop, which has a bound of its own
    left = deadline - facts.sighting(task).unchanged_seconds
    if left > 0:
        waits.append(left)
        return ""
    why = f": {task.status.error}" if task.status.error else ""
    return f"still {task.status.state.value} after {format_duration(deadline)}{why}"[
        :REASON_CHARACTERS_MAX
    ]


def _is_prepared(task: Task) -> bool:
    return task.desired_state is TaskState.READY and task.status.state >= TaskState.READY


def _told(look: Survey, failed: Sequence[str], failures: dict[str, str]) -> str:
    """Return in a sentence what has failed; empty if nothing has."""
    if not failed:
        return ""
    count = f"{len(failed)} of {len(look.stands)} places"
    told = f"version {look.rollout.target} failed in {count}"
    for place, reason in failures.items():
        return f"{told} ({_label(look, place)}: {reason})"
    return told


def _label(look: Survey, place: str) -> str:
    name = look.facts.service.spec.name
    if look.facts.service.spec.mode is not ServiceMode.GLOBAL:
        return f"{name}.{place}"
    node = look.facts.nodes.get(NodeId(place))
    return f"{name} on {(node.description.hostname if node else '') or place}"

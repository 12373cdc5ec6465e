"""Whether a cluster keeps its promises, judged from what its managers show of it.

Pure: ``follow.Update``s in, breaches out. What a manager itself has written it shows before
older writes of others have come by, so at any moment some objects may be ahead of the rest. A
state is judged only when it is one: when everything up to the newest object in it is known.
What happened between two such moments is judged as one step.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from cluster.invariants import Breach, Gates, State, Step, after, everything
from cluster.model import (
    JobStatus,
    Node,
    Object,
    Scaling,
    Service,
    ServiceVersion,
    Stack,
    Task,
)
from clusterctl.follow import Update

# What promises are about.
KINDS = ("node", "stack", "service", "service_version", "task", "job_status", "scaling")


_Grounds = tuple[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Report:
    """What was found.

    Attributes:
        revision: of the last state that was judged; 0: none was.
        nodes, services, tasks: how many that state has.
        changes: of objects, that were judged.
        breaches: promises that were broken.
        doubts: what may be a breach, and was so both at the beginning and at the end.
    """

    revision: int
    nodes: int
    services: int
    tasks: int
    changes: int
    breaches: tuple[Breach, ...]
    doubts: tuple[Breach, ...]


class Verification:
    """Follows a cluster and judges it: the first state whole, then each step, and at last again."""

    def __init__(self) -> None:
        self._state = State()
        self._known = 0  # up to this revision all is known
        self._newest = 0  # the revision of the newest object
        self._steps: dict[object, Step] | None = None  # not judged yet; None: nothing was
        self._gates = Gates(self._state)
        self._changes = 0
        self._breaches: dict[_Grounds, Breach] = {}
        self._doubts: dict[_Grounds, Breach] | None = None  # at the beginning

    @property
    def is_settled(self) -> bool:
        """Whether what is known is the state of one moment."""
        return 0 < self._known >= self._newest

    def apply(self, update: Update) -> None:
        """Learn of what *update* says, and judge if that makes it a state."""
        if update.snapshot:
            self._state = State()
            self._known = self._newest = 0
            self._steps = None
        self._known = max(self._known, update.revision)
        for value in update.changed:
            self._newest = max(self._newest, value.version)
            self._note(value, self._state.put(value))
        for value in update.removed:
            self._note(value, self._state.drop(value))
        if self.is_settled:
            self._judge()

    def conclude(self) -> Report:
        """Judge the last state whole; return all that was found."""
        doubts = self._judge_whole()
        before = doubts if self._doubts is None else self._doubts
        return Report(
            revision=self._known,
            nodes=len(self._state.nodes),
            services=len(self._state.services),
            tasks=len(self._state.tasks),
            changes=self._changes,
            breaches=tuple(self._breaches.values()),
            doubts=tuple(breach for grounds, breach in doubts.items() if grounds in before),
        )

    def _note(self, value: Object, step: Step) -> None:
        if self._steps is not None:
            key = _key(value)
            first = self._steps.get(key, step)
            self._steps[key] = Step(first.old, step.new)
            self._gates.note(step)

    def _judge(self) -> None:
        if self._steps is None:
            doubts = self._judge_whole()
            if self._doubts is None:
                self._doubts = doubts
            self._gates = Gates(self._state)
        else:
            self._changes += len(self._steps)
            self._keep(after(self._state, self._steps.values(), every_write=False))
            self._keep(self._gates.breaches(self._steps.values()))
        self._steps = {}

    def _judge_whole(self) -> dict[_Grounds, Breach]:
        """Judge the state by itself; return what is in doubt."""
        found = list(everything(self._state))
        self._keep(found)
        return {_grounds(breach): breach for breach in found if not breach.certain}

    def _keep(self, found: Iterable[Breach]) -> None:
        for breach in found:
            if breach.certain:
                self._breaches.setdefault(_grounds(breach), breach)


def _grounds(breach: Breach) -> _Grounds:
    """Return what is the same of a breach for as long as it lasts; the words may change."""
    return breach.invariant, tuple(sorted(breach.objects))


def _key(value: Object) -> object:
    match value:
        case ServiceVersion():
            return ServiceVersion, value.service_id, value.number
        case JobStatus():
            return JobStatus, value.service_id
        case Scaling():
            return Scaling, value.service_id
        case Node() | Stack() | Service() | Task():
            return type(value), value.id
    return None

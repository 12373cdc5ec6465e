"""The scheduler: where waiting tasks go, and why others have to wait.

Pure: values in, values out. ``Ledger`` turns the cluster's objects into ``Snapshot``s,
``place`` turns a snapshot and the waiting tasks into a ``Plan``, ``explain`` tells what every
node says to one task, ``simulate`` what would be if, and ``rebalance`` which moves would pay. docs/scheduler.md tells how they decide.
"""

from cluster.model import Strategy
from scheduler.changes import without
from scheduler.demand import Demand, Group, HostPort, PendingTask, Wish, group
from scheduler.explain import Explanation, Verdict, explain
from scheduler.fixes import Fix, FixKind
from scheduler.ledger import Ledger, snapshot_of
from scheduler.place import place
from scheduler.plan import Counted, Hold, Plan, Reason, ReasonKind, Unplaced
from scheduler.rebalance import Move, rebalance
from scheduler.simulate import (
    Drain,
    LoseNodes,
    LosePlace,
    Outcome,
    Scale,
    Submit,
    headroom,
    not_survived,
    simulate,
)
from scheduler.snapshot import NodeSnapshot, Snapshot

__all__ = [
    "Counted",
    "Demand",
    "Drain",
    "Explanation",
    "Fix",
    "FixKind",
    "Group",
    "Hold",
    "HostPort",
    "Ledger",
    "LoseNodes",
    "LosePlace",
    "Move",
    "NodeSnapshot",
    "Outcome",
    "PendingTask",
    "Plan",
    "Reason",
    "ReasonKind",
    "Scale",
    "Snapshot",
    "Strategy",
    "Submit",
    "Unplaced",
    "Verdict",
    "Wish",
    "explain",
    "group",
    "headroom",
    "not_survived",
    "place",
    "rebalance",
    "simulate",
    "snapshot_of",
    "without",
]

"""The scheduler: where waiting tasks go, and why others have to wait.

Pure: values in, values out. ``Ledger`` turns the cluster's objects into ``Snapshot``s,
``place`` turns a snapshot and the waiting tasks into a ``Plan``, ``explain`` tells what every
node says to one task. docs/scheduler.md tells how they decide.
"""

from scheduler.demand import Demand, Group, HostPort, PendingTask, group
from scheduler.explain import Explanation, Verdict, explain
from scheduler.ledger import Ledger, snapshot_of
from scheduler.place import place
from scheduler.plan import Counted, Plan, Reason, ReasonKind, Unplaced
from scheduler.rank import Strategy
from scheduler.snapshot import NodeSnapshot, Snapshot

__all__ = [
    "Counted",
    "Demand",
    "Explanation",
    "Group",
    "HostPort",
    "Ledger",
    "NodeSnapshot",
    "PendingTask",
    "Plan",
    "Reason",
    "ReasonKind",
    "Snapshot",
    "Strategy",
    "Unplaced",
    "Verdict",
    "explain",
    "group",
    "place",
    "snapshot_of",
]

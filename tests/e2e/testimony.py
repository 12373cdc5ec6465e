"""What etcd itself says of transactions: who sent them, what they were, whether they were done.

A member that logs everything tells of each request. It does not say whether a transaction was
carried out, but counts the bytes of the operations that were: of those for the case that its
guards hold, or of those for the case that they do not.
"""

import json
import re
from dataclasses import dataclass

from manager.store import keys
from tests.e2e.cluster import LabCluster

# Beside its key, an operation that reads one: two tags and two lengths.
READ_BYTES = 4

_READ = re.compile(r'request_range:<key:"([^"]*)" >')
_MADE = re.compile(rf'target:MOD key:"{re.escape(keys.PREFIX)}tasks/[^"]*" mod_revision:0 ')


@dataclass(frozen=True, slots=True, order=True)
class Transaction:
    """One that etcd has answered.

    Attributes:
        at: when it came, as etcd writes times; they sort.
        sender: address of the client.
        text: guards and operations, without values.
        is_done: whether its guards held.
    """

    at: str
    sender: str
    text: str
    is_done: bool

    @property
    def is_election(self) -> bool:
        """Whether it makes its sender the leader, or would."""
        return f'target:MOD key:"{keys.LEADER}" mod_revision:0 ' in self.text

    @property
    def is_fenced(self) -> bool:
        """Whether it is guarded by the election key, as every write of a leader is."""
        return f'key:"{keys.LEADER}"' in self.text and not self.is_election

    @property
    def makes_tasks(self) -> bool:
        """Whether it makes tasks, or would: none but a leader does."""
        return _MADE.search(self.text) is not None


def transactions(cluster: LabCluster) -> list[Transaction]:
    """Return what all members have told since they log everything, in order of time."""
    found = []
    for member in cluster.etcd.values():
        for line in member.output().splitlines():
            if '"response type":"/etcdserverpb.KV/Txn"' in line:
                told = json.loads(line)
                text = told["request content"]
                unmet = sum(len(key) + READ_BYTES for key in _READ.findall(text))
                sender = told["remote"].rpartition(":")[0]
                is_done = told["request size"] != unmet
                found.append(Transaction(told["start time"], sender, text, is_done))
    return sorted(found)

"""Somebody who keeps changing the cluster, and somebody who watches what becomes of it in etcd.

    python -m tests.e2e.churn MANAGERS ETCD SEED

runs where the operator works, until SIGTERM. One thread scales, deploys, labels and removes as
chance says, through the client that users have, and notes what was acknowledged. Beside it
etcd's own history is followed: every transaction is judged by the invariants, and every state
of what was asked for is kept. At the end all that was acknowledged is looked for, in that
history and in what etcd holds then (I5).

Prints a line for each request that was answered; the last line is a ``Report`` as JSON.
"""

import asyncio
import contextlib
import random
import signal
import sys
import threading
from collections.abc import Callable
from functools import partial

import msgspec

from cluster.errors import ClusterError, UnavailableError
from cluster.model import ContainerSpec, Node, Object, Placement, Service, ServiceSpec, TaskSpec
from clusterctl import asked
from clusterctl.app import App
from clusterctl.client import Client
from manager.store import keys
from manager.store.etcd import EtcdStore
from manager.store.interface import CompactedError
from tests.harness.judging import Judge
from tests.lab.images import APP

IDLE = "churn-idle_app"  # its tasks find no node: it costs writes and no containers
BUSY = "churn-busy_app"  # has one container, replaced all the time
LABEL = "churn"
NUMBER = "NUMBER"

# Enough to catch every fault in the middle of something, little enough to leave the machine to
# the faults.
PAUSE_SECONDS = (0.05, 0.3)

# One request: longer than an election of etcd's and one of managers after it, so that some are
# answered late and few are given up.
REQUEST_SECONDS = 12.0

# For the history to be read to its end; etcd is well by then.
READ_SECONDS = 30.0


class Report(msgspec.Struct):
    """What is to be known at the end.

    Attributes:
        acknowledged: how many requests were.
        unknown: how many got no answer in time.
        refused: those that were refused, which none should be.
        lost: what was acknowledged and is not to be found.
        breaches: of the invariants, with the revision of each.
        transactions: that were judged.
        gaps: how often the history was compacted before it was read.
    """

    acknowledged: int = 0
    unknown: int = 0
    refused: list[str] = []
    lost: list[str] = []
    breaches: list[str] = []
    transactions: int = 0
    gaps: int = 0


Wish = tuple[str, str]
"""What was asked for: the name of a service or node, and what is to be seen of it (``seen``)."""


def seen(value: Object) -> Wish | None:
    """Return what *value* shows of what we ask for; None if we ask for nothing of it."""
    match value:
        case Service(spec=spec) if spec.name == IDLE:
            return spec.name, str(spec.replicas)
        case Service(spec=spec) if spec.name == BUSY:
            return spec.name, spec.task.container.environment[NUMBER]
        case Node(spec=asked, description=description) if LABEL in asked.labels:
            return description.hostname, asked.labels[LABEL]
    return None


GONE = ""


class Writer:
    """Changes the cluster until told to stop, and notes what came of it.

    Attributes:
        acknowledged: wishes, each with the revision at which it was stored.
        standing: by name, what may be there now: the last that was acknowledged, and what was
            asked for since and got no answer.
    """

    def __init__(self, client: Client, seed: int) -> None:
        self.acknowledged: list[tuple[Wish, int]] = []
        self.standing: dict[str, list[str]] = {}
        self.report = Report()
        self._client = client
        self._chance = random.Random(seed)
        self._stop = threading.Event()

    def run(self) -> None:
        nodes = [each.node.description.hostname for each in self._client.nodes()]
        self._ask((IDLE, "1"), partial(self._deploy, IDLE, "1"))
        for number in map(str, range(1, sys.maxsize)):
            if self._stop.wait(self._chance.uniform(*PAUSE_SECONDS)):
                return
            what = self._chance.choices(("scale", "label", "deploy", "remove"), (5, 2, 2, 1))[0]
            if what == "scale":
                replicas = self._chance.randint(0, 6)
                self._ask((IDLE, str(replicas)), partial(self._scale, replicas))
            elif what == "label":
                node = self._chance.choice(nodes)
                self._ask((node, number), partial(self._label, node, number))
            elif what == "deploy":
                self._ask((BUSY, number), partial(self._deploy, BUSY, number))
            elif self.standing.get(BUSY, [GONE]) != [GONE]:
                self._ask((BUSY, GONE), self._remove)

    def stop(self) -> None:
        self._stop.set()

    def _ask(self, wish: Wish, send: Callable[[], int]) -> None:
        name, value = wish
        may_stand = self.standing.setdefault(name, [GONE])
        try:
            revision = send()
        except UnavailableError:
            self.report.unknown += 1
            may_stand.append(value)
        except ClusterError as error:
            self.report.refused.append(f"{name} {value!r}: {error}")
        else:
            self.acknowledged.append((wish, revision))
            self.report.acknowledged += 1
            may_stand[:] = [value]
            sys.stdout.write(f"acknowledged {name} {value!r} at {revision}\n")
            sys.stdout.flush()

    def _scale(self, replicas: int) -> int:
        return self._client.scale_services({IDLE: replicas})[0].version

    def _label(self, node: str, value: str) -> int:
        return self._client.update_node(asked.update_node(node, set_labels={LABEL: value})).version

    def _deploy(self, name: str, number: str) -> int:
        stack, _, _ = name.partition("_")
        nowhere = Placement(constraints=("node.labels.nowhere == true",))
        task = TaskSpec(
            container=ContainerSpec(
                image=f"{APP}:1", environment={NUMBER: number}, stop_grace_seconds=1.0
            ),
            placement=nowhere if name == IDLE else Placement(),
        )
        spec = ServiceSpec(name=name, stack=stack, task=task)
        return self._client.deploy(stack, [spec], prune=True).services[0].service.version

    def _remove(self) -> int:
        self._client.remove_stack(BUSY.partition("_")[0])
        return 0  # the answer does not tell


class Witness:
    """Follows etcd's history: what it shows of wishes, at which revision."""

    def __init__(self, store: EtcdStore) -> None:
        self.judge = Judge()
        self.shown: dict[tuple[str, int], str] = {}
        self.gaps: list[tuple[int, int]] = []  # revisions before and after
        self._store = store

    async def follow(self) -> None:
        """Follow for ever."""
        while True:
            before = self.judge.revision
            listing = await self._store.list(keys.PREFIX)
            self.judge.begin(listing)
            if before:
                self.gaps.append((before, listing.revision))
            self._keep(self.judge.objects())
            with contextlib.suppress(CompactedError):
                async for batch in self._store.watch(keys.PREFIX, listing.revision):
                    self._keep(self.judge.judge(batch))

    def _keep(self, values: list[Object]) -> None:
        for value in values:
            if (wish := seen(value)) is not None:
                self.shown[wish[0], value.version] = wish[1]

    def lost(self, writer: Writer) -> list[str]:
        """Return what was acknowledged and is not in the history, or not there in the end."""
        missing = []
        for (name, value), revision in writer.acknowledged:
            unread = any(before < revision <= after for before, after in self.gaps)
            found = self.shown.get((name, revision))
            if revision and found != value and not (unread and found is None):
                missing.append(f"{name} was to be {value!r} at revision {revision}, was {found!r}")
        there = dict(wish for value in self.judge.objects() if (wish := seen(value)))
        for name, may_stand in writer.standing.items():
            if there.get(name, GONE) not in may_stand:
                missing.append(f"{name} is {there.get(name, GONE)!r}, should be one of {may_stand}")
        return missing


async def main(managers: str, etcd: str, seed: int) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    app = App(
        environment={"SHOAL_ENDPOINT": managers, "SHOAL_CONFIG": "/nonexistent"},
        timeout=f"{REQUEST_SECONDS}s",
    )
    writer = Writer(app.client, seed)
    store = EtcdStore(etcd.split(","))
    witness = Witness(store)
    following = asyncio.create_task(witness.follow())
    writing = asyncio.create_task(asyncio.to_thread(writer.run))
    await stop.wait()
    writer.stop()
    await writing
    async with asyncio.timeout(READ_SECONDS):
        newest = (await store.list(keys.PREFIX)).revision
        while witness.judge.revision < newest:
            await asyncio.sleep(0.05)
    following.cancel()
    await asyncio.wait([following])
    await store.aclose()
    report = writer.report
    report.lost = witness.lost(writer)
    report.breaches = [f"{revision}: {breach}" for revision, breach in witness.judge.breaches]
    report.transactions = witness.judge.transactions
    report.gaps = len(witness.gaps)
    sys.stdout.write(f"{msgspec.json.encode(report).decode()}\n")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))

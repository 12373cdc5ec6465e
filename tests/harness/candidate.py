"""A manager reduced to its candidacy, as a process of its own that a test can kill or pause.

    python -m tests.harness.candidate NAME ENDPOINT...

It prints a line for each thing that happens: ``joined``, ``leads REVISION``, ``lost``. While it
leads it writes /candidate, fenced, all the time. After each term it goes on writing /late with
that term's fence until it prints ``fenced``. Both hold its name, so the history tells whether
anyone wrote while another led.
"""

import asyncio
import random
import signal
import sys

from cluster.clock import SystemClock
from cluster.model import Manager, ManagerId
from manager.election import Election, Leadership
from manager.membership import Membership
from manager.store.etcd import EtcdStore
from manager.store.interface import GuardFailedError, Put, StoreUnavailableError

WRITES_SECONDS = 0.01


def say(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


async def work(store: EtcdStore, name: str, leadership: Leadership) -> None:
    say("leads", leadership.create_revision)
    try:
        while True:
            await store.commit([leadership.fence], [Put("/candidate", name.encode())])
            await asyncio.sleep(WRITES_SECONDS)
    except GuardFailedError:
        say("deposed")
        await asyncio.Event().wait()  # the election ends this
    finally:
        say("lost")


async def write_late(store: EtcdStore, name: str, leadership: Leadership) -> None:
    """After the term is over by our own clock, or by another's, try to write on."""
    await leadership.lost.wait()
    while True:
        try:
            await store.commit([leadership.fence], [Put("/late", name.encode())])
        except GuardFailedError:
            say("fenced")
            return
        except StoreUnavailableError:
            continue


async def main(name: str, endpoints: list[str]) -> None:
    store = EtcdStore(endpoints)
    source = random.Random()
    manager = Manager(id=ManagerId(name), address="127.0.0.1:1")
    membership = Membership(store, SystemClock(), manager, source)
    election = Election(store, membership, source)
    late_writes: set[asyncio.Task[None]] = set()

    async def term(leadership: Leadership) -> None:
        late_writes.add(asyncio.create_task(write_late(store, name, leadership)))
        await work(store, name, leadership)

    membership.subscribe(lambda lease: say("joined") if lease else None)
    tasks = [asyncio.create_task(membership.run()), asyncio.create_task(election.lead(term))]
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    for task in reversed(tasks):  # the leadership is given back before the lease
        task.cancel()
        await asyncio.wait([task])
    await asyncio.wait(late_writes or {asyncio.create_task(asyncio.sleep(0))})
    await store.aclose()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2:]))

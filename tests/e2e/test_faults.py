"""A storm of faults under managers and etcd, while somebody keeps changing the cluster.

One test, for what it proves is about all of them together: not one acknowledged write is lost
(I5), no transaction breaks a promise, no deposed leader writes (I4), and not one container that
should run notices anything (I11).
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path

import pytest

from tests.e2e.churning import Churn
from tests.e2e.cluster import ETCD_PORT, LabCluster
from tests.e2e.history import history
from tests.e2e.stacks import web
from tests.e2e.test_managers import leader_of, other_than
from tests.e2e.testimony import Transaction, transactions
from tests.lab.host import Host
from tests.lab.process import Process
from tests.lab.switch import LongCable
from tests.lab.waiting import wait_until

SEED = 20_260_101

# Tasks that find no node: what a leader has to do for them is to write.
IDLE = """
services:
  app:
    image: shoal-test/app:1
    deploy: {replicas: 1, placement: {constraints: [node.labels.nowhere == true]}}
"""

# What a leader sends to make three tasks; a renewal of its lease is a small part of that.
SENT_BYTES_MIN = 500

# Longer than it takes until another leads, be it by the slowest reckoning of a lease's end.
LATE_SECONDS = 6.0


@pytest.mark.usefixtures("patience")
def test_a_storm_loses_nothing_and_stops_nothing(cluster: LabCluster) -> None:
    cluster.deploy("steady", web(4))
    cluster.deploy("idle", IDLE, "--no-wait")
    before = cluster.seen("steady_web")
    started = cluster.starts("steady_web")
    with Churn(cluster, SEED) as churn:
        for fault in (
            members_are_killed,
            the_leading_member_hangs,
            the_members_leader_moves,
            the_leader_is_killed,
            the_leader_hangs,
            the_leaders_clock_jumps,
            a_leader_writes_late,
            the_leader_hears_nothing,
            a_manager_misses_history,
            a_long_way_to_etcd,
        ):
            fault(cluster, churn)
            churn.wait_progress()
        report = churn.end()
    assert cluster.starts("steady_web") == started
    assert history(cluster, "steady_web", since=before) == []
    assert report.refused == []
    assert report.lost == []
    assert report.breaches == []
    assert report.acknowledged > 20
    assert report.transactions > report.acknowledged


# --- etcd ---


def members_are_killed(cluster: LabCluster, churn: Churn) -> None:
    """One after the other; each comes back before the next, and from now on tells everything."""
    for host in cluster.etcd_hosts:
        cluster.etcd[host.name].kill()
        churn.wait_progress()
        cluster.start_member(host, "--log-level", "debug")
        wait_until(
            lambda: host.name in cluster.member_states(),  # noqa: B023 - it is called here
            f"the member on {host.name} is back",
            every_seconds=0.1,
        )


def the_leading_member_hangs(cluster: LabCluster, churn: Churn) -> None:
    host = leading_member(cluster)
    with paused(cluster.etcd[host.name]):
        churn.wait_progress()
    wait_until(lambda: cluster.leading_member() not in (None, host), "another member leads")


def the_members_leader_moves(cluster: LabCluster, churn: Churn) -> None:
    host = leading_member(cluster)
    heir = next(name for name in cluster.etcd if name != host.name)
    member_id = cluster.member_states()[heir]["header"]["member_id"]
    cluster.etcdctl("move-leader", f"{member_id:x}", host=host)
    churn.wait_progress()
    assert leading_member(cluster).name == heir


def leading_member(cluster: LabCluster) -> Host:
    host = wait_until(cluster.leading_member, "a member leads etcd", every_seconds=0.1)
    assert host is not None
    return host


# --- managers ---


def the_leader_is_killed(cluster: LabCluster, churn: Churn) -> None:
    leader = leader_of(cluster)
    cluster.managers[leader.name].kill()
    wait_succeeded(cluster, leader)
    churn.wait_progress()
    cluster.start_manager(leader, environment=clock_of(leader))
    wait_until(
        lambda: len(cluster.ctl_json("cluster", "info")["managers"]) == 2,
        "it is a manager again",
        every_seconds=0.1,
    )


def the_leader_hangs(cluster: LabCluster, churn: Churn) -> None:
    """Longer than its lease lasts: it wakes as somebody who thinks that it leads."""
    leader = leader_of(cluster)
    process = cluster.managers[leader.name]
    terms = process.output().count("no longer leads")
    with paused(process):
        wait_succeeded(cluster, leader)
    churn.wait_progress()
    wait_until(
        lambda: process.output().count("no longer leads") > terms, "the old leader has given up"
    )


def the_leaders_clock_jumps(cluster: LabCluster, churn: Churn) -> None:
    """An hour ahead, then two back, then on: nobody has to trust a clock."""
    leader = leader_of(cluster)  # that was killed: it leads since the other was paused
    for slot, offset in enumerate((3600, -3600, 0), start=2):
        set_clock(leader, offset)
        churn.wait_progress()
        cluster.ctl("service", "scale", "--no-wait", f"idle_app={slot}")
        made_at = wait_until(partial(task_made_at, cluster, slot), "it makes a task")
        assert abs(made_at - time.time() - offset) < 1800, "and takes the time for what it is told"


def task_made_at(cluster: LabCluster, slot: int) -> float:
    """Return when the leader made the task in that slot, by its own clock; 0 before it has."""
    found = [each for each in cluster.tasks("idle_app") if each["slot"] == slot]
    return datetime.fromisoformat(found[0]["created_at"]).timestamp() if found else 0.0


def clock_of(host: Host) -> dict[str, str]:
    """Return the environment of a program whose clock ``set_clock`` can move.

    Only the time of day: what measures time goes on as it does.
    """
    (library,) = Path("/usr/lib").glob("*/faketime/libfaketime.so.1")
    set_clock(host, 0)
    return {
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(host.folder / "clock"),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }


def set_clock(host: Host, offset_seconds: int) -> None:
    new = host.folder / "clock.new"
    new.write_text(f"{offset_seconds:+d}s\n")
    new.replace(host.folder / "clock")


def a_leader_writes_late(cluster: LabCluster, churn: Churn) -> None:
    """What it sends is long under way, and arrives when another leads and it is paused itself."""
    leader = leader_of(cluster)
    heir = other_than(cluster, leader)
    with churn.held():
        wait_quiet(cluster)  # while an answer is out it would decide nothing new
        leader.lengthen(LongCable(outward_seconds=LATE_SECONDS))
        scale = ("service", "scale", "--no-wait", "idle_app=8")
        cluster.ctl(*scale, endpoints=cluster.endpoint_of(heir))
        wait_until(lambda: unsent_bytes(leader) >= SENT_BYTES_MIN, "the leader has sent something")
        with paused(cluster.managers[leader.name]):
            wait_succeeded(cluster, leader)
            wait_until(
                lambda: any(late.makes_tasks for late in late_attempts(cluster, leader, heir)),
                "the tasks that the old leader makes have arrived",
                every_seconds=0.2,
            )
        leader.shorten()
        wait_until(lambda: unsent_bytes(leader) == 0, "all that it had to say has arrived")
    assert not any(late.is_done for late in late_attempts(cluster, leader, heir))


def late_attempts(cluster: LabCluster, old: Host, new: Host) -> list[Transaction]:
    """Return what *old* has sent as the leader since *new* leads."""
    told = transactions(cluster)
    elections = [each for each in told if each.is_election and each.is_done]
    if not elections or elections[-1].sender != new.address:
        return []
    late = [each for each in told if each.at > elections[-1].at and each.sender == old.address]
    return [each for each in late if each.is_fenced or each.makes_tasks]


def wait_quiet(cluster: LabCluster) -> None:
    """Wait until nothing is written any more: two looks show the same revision."""
    looks = [0]

    def is_quiet() -> bool:
        looks.append(newest_revision(cluster))
        return looks[-1] == looks[-2]

    wait_until(is_quiet, "nothing is written any more", every_seconds=1.0)


def newest_revision(cluster: LabCluster) -> int:
    return max(int(state["header"]["revision"]) for state in cluster.member_states().values())


def unsent_bytes(host: Host) -> int:
    """Return how much the host has sent to etcd that nobody has acknowledged."""
    listing = host.run(["ss", "-tnH", "dst", f":{ETCD_PORT}"]).stdout
    return sum(int(line.split()[2]) for line in listing.splitlines())


def the_leader_hears_nothing(cluster: LabCluster, churn: Churn) -> None:
    """Its writes are done, and it does not learn of it."""
    leader = leader_of(cluster)
    for host in cluster.etcd_hosts:
        cluster.lab.block(host, leader)
    wait_succeeded(cluster, leader)
    churn.wait_progress()
    cluster.lab.unblock_all()


def a_manager_misses_history(cluster: LabCluster, churn: Churn) -> None:
    """It is cut off, and the history that it would go on from is gone when it is back."""
    deputy = other_than(cluster, leader_of(cluster))
    process = cluster.managers[deputy.name]
    breaks, gaps = (process.output().count(words) for words in (WATCH_BROKE, HISTORY_GONE))
    deputy.cut()
    wait_until(lambda: process.output().count(WATCH_BROKE) > breaks, "it has noticed")
    churn.wait_progress()
    cluster.etcdctl("compact", str(newest_revision(cluster)))
    deputy.heal()
    wait_until(lambda: process.output().count(HISTORY_GONE) > gaps, "it begins anew")


def a_long_way_to_etcd(cluster: LabCluster, churn: Churn) -> None:
    """The leader is a quarter of a second from everybody else, more or less."""
    leader = leader_of(cluster)
    leader.lengthen(LongCable(0.1, 0.1, jitter_seconds=0.05, seed=SEED))
    churn.wait_progress(4)
    leader.shorten()


def wait_succeeded(cluster: LabCluster, leader: Host) -> None:
    """Wait until the other manager leads."""
    wait_until(
        lambda: cluster.leading_host() not in (None, leader),
        f"another manager than that on {leader.name} leads",
        every_seconds=0.1,
    )


WATCH_BROKE = "resumes after revision"
HISTORY_GONE = "the history was compacted"


@contextmanager
def paused(process: Process) -> Iterator[None]:
    process.pause()
    yield
    process.resume()

"""Leases of fenced containers: who may start, who must stop, and whom the guard kills."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from agent import guard
from agent.fence import NEVER, RECORD, STOP_AFTER, Fence, GuardFile, lease_seconds
from agent.runtime.interface import ContainerId, RuntimeUnavailableError
from cluster.model import ContainerSpec, LostNode, LostNodePolicy, TaskSpec
from tests.fakes.virtual_time import in_virtual_time

C1, C2 = ContainerId("c1"), ContainerId("c2")
BOOT = "boot-1"


class Record:
    """A record in memory; ``is_guarded`` says whether a guard can be had."""

    def __init__(self) -> None:
        self.heard_at = NEVER
        self.leases: dict[ContainerId, float] = {}
        self.is_guarded = True

    def load(self) -> tuple[float, dict[ContainerId, float]]:
        return self.heard_at, dict(self.leases)

    def save(self, heard_at: float, leases: Mapping[ContainerId, float]) -> None:
        self.heard_at, self.leases = heard_at, dict(leases)

    async def ensure(self) -> None:
        if not self.is_guarded:
            raise RuntimeUnavailableError("no guard")


class Bench:
    def __init__(self) -> None:
        self.record = Record()
        self.now = 1_000.0
        self.fence = self.restarted()

    def restarted(self) -> Fence:
        return Fence(self.record, lambda: self.now)


@in_virtual_time
async def test_nothing_fenced_starts_before_a_manager_has_vouched() -> None:
    bench = Bench()
    with pytest.raises(RuntimeUnavailableError, match="a manager's word"):
        await bench.fence.hold(C1, 30.0)
    assert not bench.record.leases

    bench.fence.heard(bench.now)
    await bench.fence.hold(C1, 30.0)
    assert bench.record.leases == {C1: 30.0}
    assert bench.record.heard_at == bench.now


@in_virtual_time
async def test_nothing_fenced_starts_unguarded() -> None:
    bench = Bench()
    bench.fence.heard(bench.now)
    bench.record.is_guarded = False
    with pytest.raises(RuntimeUnavailableError, match="no guard"):
        await bench.fence.hold(C1, 30.0)
    assert not bench.record.leases


@in_virtual_time
async def test_a_container_has_to_stop_when_two_thirds_of_its_lease_are_over_and_that_is_final() -> (
    None
):
    bench = Bench()
    bench.fence.heard(bench.now)
    await bench.fence.hold(C1, 30.0)
    await bench.fence.hold(C2, 90.0)
    bench.now += 19.9
    assert bench.fence.overdue() == set()
    bench.now += 0.2
    assert bench.fence.overdue() == {C1}
    bench.fence.heard(bench.now)
    assert bench.fence.overdue() == {C1}
    bench.fence.ended([C1])
    assert bench.fence.overdue() == {C1}, "why it ended is still to be reported"
    bench.fence.keep_only([C2])
    assert bench.fence.overdue() == set()
    assert bench.record.leases == {C2: 90.0}


@in_virtual_time
async def test_a_lease_counts_from_when_the_heartbeat_was_sent_and_never_back() -> None:
    bench = Bench()
    bench.fence.heard(bench.now)
    await bench.fence.hold(C1, 30.0)
    bench.fence.heard(bench.now - 5)  # an answer that was long on its way
    assert bench.record.heard_at == bench.now
    bench.now += 30 * STOP_AFTER
    assert bench.fence.overdue() == {C1}


@in_virtual_time
async def test_a_restart_gives_no_more_time() -> None:
    bench = Bench()
    bench.fence.heard(bench.now)
    await bench.fence.hold(C1, 30.0)
    bench.now += 15
    again = bench.restarted()
    assert again.overdue() == set()
    bench.now += 6
    assert again.overdue() == {C1}
    with pytest.raises(RuntimeUnavailableError):
        await again.hold(C2, 30.0)


def test_the_shortest_lease_says_how_often_to_ask() -> None:
    bench = Bench()
    assert bench.fence.ask_seconds == float("inf")
    bench.record.leases = {C1: 12.0, C2: 60.0}
    assert bench.restarted().ask_seconds == 2.0


def test_only_a_fenced_task_has_a_lease() -> None:
    spec = TaskSpec(container=ContainerSpec(image="app:1"))
    assert lease_seconds(spec) == 0.0
    waits = LostNode(policy=LostNodePolicy.WAIT, seconds=60)
    fenced = LostNode(policy=LostNodePolicy.FENCE, seconds=30)
    assert lease_seconds(TaskSpec(container=spec.container, lost_node=waits)) == 0.0
    assert lease_seconds(TaskSpec(container=spec.container, lost_node=fenced)) == 30.0


# --- the guard --------------------------------------------------------------------------------


def record(**changes: object) -> dict[str, object]:
    return {"boot_id": BOOT, "heard_at": 100.0, "leases": {"c1": 30.0, "c2": 60.0}, **changes}


def test_the_guard_kills_from_the_moment_a_lease_is_over() -> None:
    assert guard.overdue(record(), BOOT, 129.9) == []
    assert guard.overdue(record(), BOOT, 130.0) == ["c1"]
    assert guard.overdue(record(), BOOT, 160.0) == ["c1", "c2"]


@pytest.mark.parametrize(
    "broken",
    [None, [], {}, record(boot_id="boot-0"), record(heard_at="x"), record(leases=None)],
)
def test_the_guard_kills_nobody_for_what_it_cannot_read_or_what_is_of_another_boot(
    broken: object,
) -> None:
    assert guard.overdue(broken, BOOT, 1e9) == []


def test_the_guard_finds_a_containers_processes_by_their_control_groups(tmp_path: Path) -> None:
    for pid, group in {
        "10": "0::/docker/c1aa",
        "11": "12:pids:/lab/h1/c1aa\n0::/",
        "12": "0::/docker/c2bb",
        "self": "0::/docker/c1aa",
    }.items():
        (tmp_path / pid).mkdir()
        (tmp_path / pid / "cgroup").write_text(f"{group}\n")
    (tmp_path / "13").mkdir()  # it has just ended
    assert sorted(guard.processes_of(["c1aa"], tmp_path)) == [10, 11]


# --- the file ---------------------------------------------------------------------------------


def test_what_is_on_record_outlives_the_agent_but_not_the_host(tmp_path: Path) -> None:
    file = GuardFile(tmp_path)
    assert file.load() == (NEVER, {})
    file.save(77.0, {C1: 30.0})
    assert GuardFile(tmp_path).load() == (77.0, {C1: 30.0})

    stored = json.loads((tmp_path / RECORD).read_text())
    (tmp_path / RECORD).write_text(json.dumps({**stored, "boot_id": "another"}))
    assert GuardFile(tmp_path).load() == (NEVER, {})

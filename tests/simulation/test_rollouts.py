"""What comes of faults in the middle of a change, phase by phase, on a cluster that is simulated.

The judge holds each story against all promises, I7 among them: what a rollout takes away is its to
take. Here is told besides what it comes to.
"""

import itertools
from collections.abc import Callable

import msgspec
import pytest

from agent.runtime.interface import Health
from cluster.model import RolloutState, TaskState
from tests.fakes.runtime import Program
from tests.simulator.scenario import Scenario, play
from tests.simulator.workload import ABSENT, Wish

WEB = Wish(
    name="web",
    program="checked",
    replicas=4,
    turn_seconds=3.0,
    failure_action="rollback",
)
GOOD = msgspec.structs.replace(WEB, number=1)
BROKEN = msgspec.structs.replace(WEB, program="broken")

# When the leader dies: as soon as this holds in the store, whether or not the leader knows.
PHASES: dict[str, tuple[Wish, Callable[[Scenario], bool]]] = {
    "before the first task": (GOOD, lambda s: s.service("web").spec_version == 2),
    "while the first is pulled": (GOOD, lambda s: is_seen(s, TaskState.PREPARING)),
    "while the first starts": (GOOD, lambda s: is_seen(s, TaskState.STARTING)),
    "in the delay": (GOOD, lambda s: len(s.running("web", 2)) == len(s.tasks("web", 2)) == 1),
    "in the monitor period": (GOOD, lambda s: len(s.running("web", 2)) == 4),
    "when it completes": (GOOD, lambda s: s.rollout("web").healthy == (1, 2)),
    "when it turns back": (BROKEN, lambda s: s.rollout("web").state is RolloutState.ROLLING_BACK),
    "when it has turned back": (
        BROKEN,
        lambda s: s.rollout("web").state is RolloutState.ROLLED_BACK,
    ),
}


def is_seen(scenario: Scenario, state: TaskState) -> bool:
    return any(task.status.state is state for task in scenario.tasks("web", 2))


async def deployed(scenario: Scenario, wish: Wish) -> None:
    """Have a first version run, and known to run well."""
    await scenario.want(wish)
    await scenario.until(
        lambda: scenario.rollout(wish.name).healthy == (1,), "the first version has run well"
    )
    scenario.follow(wish.name)


@pytest.mark.parametrize("phase", PHASES)
def test_a_rollout_goes_on_when_its_leader_is_killed(phase: str) -> None:
    wish, holds = PHASES[phase]

    async def script(scenario: Scenario) -> None:
        await deployed(scenario, WEB)
        for agent in scenario.agents.values():
            agent.engine.images.clear()
            agent.engine.pull_seconds = 2.0
        killed = scenario.kill_leader_when(lambda: holds(scenario))
        await scenario.want(wish)
        await scenario.until(lambda: bool(killed), f"the leader is killed {phase}")
        await scenario.until(
            lambda: any(manager.leads for manager in scenario.managers.values()), "another leads"
        )
        killed[0].start()
        ends = RolloutState.COMPLETED if wish is GOOD else RolloutState.ROLLED_BACK
        version = 2 if wish is GOOD else 1
        await scenario.until(
            lambda: (
                scenario.rollout("web").state is ends
                and scenario.rollout("web").spec_version == 2
                and len(scenario.running("web", version)) == len(scenario.tasks("web")) == 4
            ),
            f"it is {ends.value}",
        )
        assert scenario.fewest >= 3, "one at a time"

    play(script)


@pytest.mark.parametrize("start_first", [False, True])
def test_an_image_that_cannot_be_had_in_mid_rollout_is_taken_back(start_first: bool) -> None:
    first = msgspec.structs.replace(WEB, replicas=6, start_first=start_first)

    async def script(scenario: Scenario) -> None:
        for agent in scenario.agents.values():
            agent.engine.registry.discard(ABSENT)
        await deployed(scenario, first)
        await scenario.want(msgspec.structs.replace(first, number=1))
        await scenario.until(lambda: len(scenario.running("web", 2)) == 2, "two are updated")

        await scenario.want(msgspec.structs.replace(first, program=ABSENT))

        await scenario.until(
            lambda: (
                scenario.rollout("web").state is RolloutState.ROLLED_BACK
                and len(scenario.running("web", 1)) == len(scenario.tasks("web")) == 6
            ),
            "all run the version that ran well",
        )
        assert "image 'absent' cannot be had" in scenario.rollout("web").message
        assert scenario.fewest >= 5, "on its way back it stops first, one at a time"

    play(script)


def test_a_node_that_is_paused_between_two_tries_keeps_what_it_has() -> None:
    everywhere = msgspec.structs.replace(WEB, is_global=True, parallelism=4)
    absent = msgspec.structs.replace(everywhere, program=ABSENT, failure_action="continue")

    async def script(scenario: Scenario) -> None:
        paused, *others = scenario.agents.values()
        for agent in scenario.agents.values():
            agent.engine.registry.discard(ABSENT)
        await deployed(scenario, everywhere)
        await scenario.want(absent)
        await scenario.until(
            lambda: all(
                any(task.status.state is TaskState.REJECTED for task in scenario.on(agent))
                for agent in scenario.agents.values()
            ),
            "no node can have the image",
        )
        await scenario.pause(paused)
        for agent in scenario.agents.values():
            agent.engine.registry.add(ABSENT)

        await scenario.until_calm()

        assert {task.node_id for task in scenario.running("web", 1)} == {paused.node_id}
        assert {task.node_id for task in scenario.running("web", 2)} == {
            agent.node_id for agent in others
        }

    play(script)


@pytest.mark.parametrize("lost", ["the drained", "another"])
def test_a_node_is_lost_during_a_drain(lost: str) -> None:
    async def script(scenario: Scenario) -> None:
        await deployed(scenario, msgspec.structs.replace(WEB, program="slow", replicas=8))
        drained, other, *_ = scenario.agents.values()
        assert any(task.node_id == drained.node_id for task in scenario.running("web"))
        await scenario.drain(drained)
        await scenario.until(
            lambda: (
                any(
                    task.moving and task.node_id == drained.node_id
                    for task in scenario.tasks("web")
                )
                and len(scenario.tasks("web")) > 8
            ),
            "successors are being made ready",
        )

        gone = drained if lost == "the drained" else other
        gone.power_off()

        await scenario.until(
            lambda: (
                len(scenario.running("web")) == len(scenario.tasks("web")) == 8
                and not {drained.node_id, gone.node_id} & {t.node_id for t in scenario.tasks("web")}
            ),
            "all run elsewhere",
        )
        gone.power_on()
        await scenario.until(
            lambda: not [one for one in drained.engine.containers() if one.alive and one.task_id],
            "nothing runs on the drained node",
        )

    play(script)


SICK = "sick"


@pytest.mark.parametrize(
    ("program", "action", "start_first"),
    list(itertools.product(("broken", SICK), ("pause", "continue", "rollback"), (False, True))),
)
def test_a_version_that_only_crashes_never_takes_the_last_that_runs(
    program: str, action: str, start_first: bool
) -> None:
    first = msgspec.structs.replace(
        WEB,
        replicas=3,
        parallelism=2,
        turn_seconds=0.0,
        failure_action=action,
        start_first=start_first,
    )

    async def script(scenario: Scenario) -> None:
        for agent in scenario.agents.values():
            agent.engine.programs = {
                **agent.engine.programs,
                SICK: Program(health=((1.0, Health.UNHEALTHY),)),
            }
            agent.engine.registry.add(SICK)
        await deployed(scenario, first)

        await scenario.want(msgspec.structs.replace(first, program=program))
        await scenario.until(lambda: bool(scenario.tasks("web", 2)), "the new version is tried")
        await scenario.pass_seconds(600.0)

        assert scenario.fewest >= 1
        assert scenario.running("web", 1)
        if action == "rollback":
            assert len(scenario.running("web", 1)) == 3
        assert not scenario.running("web", 2) or program == "broken"

    play(script)

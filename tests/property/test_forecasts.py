"""I14: what a plan shows is what the deploy does at the same revision.

Random clusters and stacks, the real reconcilers on the store in memory: what was forecast on a
copy is compared with what really becomes of the tasks, by the same measure.
"""

from collections.abc import Awaitable

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cluster.model import (
    Availability,
    ContainerSpec,
    Dependency,
    DependencyCondition,
    JobSpec,
    Placement,
    PublishedPort,
    RestartCondition,
    RestartPolicy,
    ServiceMode,
    ServiceSpec,
    TaskSpec,
    UpdateConfig,
    UpdateOrder,
)
from cluster.resources import Resources
from manager.control.nodes import NodeChange
from manager.forecast.desk import Trial
from tests.fakes.virtual_time import in_virtual_time
from tests.harness.foretelling import pin_of, with_nodes
from tests.harness.leading import leading

NODES = st.lists(st.tuples(st.integers(1, 6), st.sampled_from(["a", "b"])), min_size=1, max_size=4)

# By name: what a service is cannot change.
MODES = {
    "w": ServiceMode.REPLICATED,
    "x": ServiceMode.REPLICATED,
    "y": ServiceMode.GLOBAL,
    "j": ServiceMode.REPLICATED_JOB,
}
LASTING = (DependencyCondition.STARTED, DependencyCondition.HEALTHY)
CONDITIONS = {name: tuple(DependencyCondition) if name == "j" else LASTING for name in MODES}


@st.composite
def specs(draw: st.DrawFn) -> list[ServiceSpec]:
    """Return the services of a stack, in one version of its file."""
    found = []
    # Sorted: so no two versions of a file wait for each other in a circle.
    names = sorted(draw(st.sets(st.sampled_from(list(MODES)), max_size=4)))
    for at, name in enumerate(names):
        is_job = MODES[name].is_job
        needed = [
            Dependency(service=f"s_{other}", condition=draw(st.sampled_from(CONDITIONS[other])))
            for other in names[:at]
            if draw(st.integers(0, 3)) == 0
        ]
        zone = draw(st.sampled_from(["", "a", "b"]))
        port = draw(st.sampled_from([0, 0, 8080]))
        found.append(
            ServiceSpec(
                name=f"s_{name}",
                stack="s",
                mode=MODES[name],
                job=JobSpec(completions=draw(st.integers(1, 3))) if is_job else JobSpec(),
                depends_on=tuple(needed),
                replicas=draw(st.integers(0, 4)),
                task=TaskSpec(
                    container=ContainerSpec(image=draw(st.sampled_from(["a:1", "a:2"]))),
                    reservations=Resources(cpu_nanos=draw(st.integers(0, 3)) * 10**9),
                    ports=(PublishedPort(target=80, published=port),) if port else (),
                    restart=RestartPolicy(
                        condition=RestartCondition.ON_FAILURE if is_job else RestartCondition.ANY
                    ),
                    placement=Placement(
                        constraints=(f"node.labels.zone == {zone}",) if zone else ()
                    ),
                ),
                update=UpdateConfig()
                if is_job
                else UpdateConfig(
                    parallelism=draw(st.integers(0, 2)),
                    monitor_seconds=0.0,
                    order=draw(st.sampled_from(UpdateOrder)),
                ),
            )
        )
    return found


def told_and_done(
    nodes: list[tuple[int, str]], first: list[ServiceSpec], second: list[ServiceSpec], prune: bool
) -> None:
    @in_virtual_time
    async def world() -> None:
        async with leading() as core:
            desk = await with_nodes(core, nodes)
            for wanted in (first, second):

                async def deploy(trial: Trial, wanted: list[ServiceSpec] = wanted) -> object:
                    return await trial.stacks.deploy("s", wanted, prune=prune)

                forecast = await desk.foretold(deploy)
                planned = pin_of(forecast)
                deployed = desk.pinned.deploy("s", wanted, prune=prune, pinned=planned)
                await desk.comes_true(forecast, deployed)

    world()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(nodes=NODES, first=specs(), second=specs(), prune=st.booleans())
def test_a_deploy_does_what_its_plan_shows(
    nodes: list[tuple[int, str]], first: list[ServiceSpec], second: list[ServiceSpec], prune: bool
) -> None:
    told_and_done(nodes, first, second, prune)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(nodes=NODES, stack=specs(), data=st.data())
def test_a_dry_run_shows_what_is_done(
    nodes: list[tuple[int, str]], stack: list[ServiceSpec], data: st.DataObject
) -> None:
    """Draining, scaling and removing, foretold and done."""
    names = [spec.name for spec in stack if spec.mode is ServiceMode.REPLICATED]
    kind = data.draw(st.sampled_from(["drain", "scale", "remove", "remove stack"]))
    replicas = data.draw(st.integers(0, 5))

    @in_virtual_time
    async def world() -> None:
        async with leading() as core:
            desk = await with_nodes(core, nodes)
            await desk.stacks.deploy("s", stack, prune=True)
            await desk.calm()

            def request(to: Trial) -> Awaitable[object]:
                if kind == "drain":
                    drain = NodeChange(availability=Availability.DRAIN)
                    return to.nodes.update("n0", drain)
                if kind == "scale" and names:
                    return to.services.scale({names[0]: replicas})
                if kind == "remove" and names:
                    return to.services.remove(names)
                return to.stacks.remove("s")

            forecast = await desk.foretold(request)
            await desk.comes_true(forecast, request(desk.real))

    world()

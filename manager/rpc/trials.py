"""Requests on trial: which real one a message is, and the answer as a message."""

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from cluster import codec
from cluster.api.v1 import control_pb2 as pb
from cluster.api.v1 import types_pb2
from cluster.errors import InvalidError
from cluster.model import ClusterId, Node, NodeSpec, ServiceId, ServiceSpec
from manager.control.stacks import Deployment
from manager.forecast.desk import Forecast, Trial
from manager.forecast.outcome import Effect, PlannedTask
from manager.forecast.pinned import PinnedPlan
from manager.rpc import messages


def request_of(trials: Iterable[pb.TrialRequest]) -> Callable[[Trial], Awaitable[object]]:
    """Return what does the requests, one after the other; its answer is the last one's.

    Raises:
        InvalidError: nothing is asked, or something that this version does not know.
    """
    wanted = [(each.WhichOneof("request"), each) for each in trials]
    for kind, _ in wanted:
        if kind is None:
            raise InvalidError("a request on trial is empty, or of a kind not known here")
    if not wanted:
        raise InvalidError("nothing is asked: name at least one request")

    async def done(trial: Trial) -> object:
        answer: object = None
        for kind, each in wanted:
            assert kind is not None
            answer = await _REQUESTS[kind](trial, getattr(each, kind))
        return answer

    return done


def _deploy(trial: Trial, request: pb.DeployStackRequest) -> Awaitable[object]:
    return trial.stacks.deploy(request.name, specs_from(request), prune=request.prune)


def _update_service(trial: Trial, request: pb.UpdateServiceRequest) -> Awaitable[object]:
    spec = codec.from_wire(request.spec, ServiceSpec)
    return trial.services.update(request.service, request.version, spec)


def _update_node(trial: Trial, request: pb.UpdateNodeRequest) -> Awaitable[Node]:
    change = messages.node_change_from(request)
    return trial.nodes.update(request.node, change, version=request.version)


def _rollback(trial: Trial, request: pb.RollbackServicesRequest) -> Awaitable[object]:
    return trial.rollouts.rollback(messages.rollback_wishes_from(request))


def _steer(trial: Trial, request: pb.SteerRolloutRequest) -> Awaitable[object]:
    return trial.rollouts.steer(request.service, messages.rollout_action_from(request.action))


_REQUESTS: dict[str, Callable[[Trial, Any], Awaitable[object]]] = {
    "deploy_stack": _deploy,
    "remove_stack": lambda trial, request: trial.stacks.remove(request.stack),
    "create_service": lambda trial, request: trial.services.create(
        codec.from_wire(request.spec, ServiceSpec)
    ),
    "update_service": _update_service,
    "scale_services": lambda trial, request: trial.services.scale(dict(request.replicas)),
    "remove_services": lambda trial, request: trial.services.remove(request.services),
    "update_node": _update_node,
    "rollback_services": _rollback,
    "rollback_stack": lambda trial, request: trial.rollouts.rollback_stack(request.stack),
    "steer_rollout": _steer,
    "run_job": lambda trial, request: trial.services.run_job(request.service),
    "remove_node": lambda trial, request: trial.nodes.remove(request.node, force=request.force),
}


def specs_from(request: pb.DeployStackRequest) -> list[ServiceSpec]:
    return [codec.from_wire(spec, ServiceSpec) for spec in request.services]


def plan(value: Forecast, cluster_id: str) -> pb.PlanResponse:
    found = value.outcome
    left_over = value.answer.left_over if isinstance(value.answer, Deployment) else ()
    return pb.PlanResponse(
        cluster_id=cluster_id,
        revision=value.revision,
        services=[
            pb.PlannedService(
                effect=each.effect.value,
                service_id=each.service_id,
                name=each.name,
                before=_spec(each.before),
                after=_spec(each.after),
                waits_for=each.waits_for,
            )
            for each in found.services
        ],
        nodes=[
            pb.PlannedNode(
                effect=each.effect.value,
                node_id=each.node_id,
                hostname=each.hostname,
                before=_node_spec(each.before),
                after=_node_spec(each.after),
            )
            for each in found.nodes
        ],
        tasks=map(_task, found.tasks),
        tasks_kept=found.tasks_kept,
        seconds=found.seconds,
        complete=found.is_complete,
        left_over=left_over,
        awaiting_room=found.awaiting_room,
    )


def pinned_from(message: pb.PinnedPlan) -> PinnedPlan:
    """Return what was planned.

    Raises:
        InvalidError: an effect that this version does not know.
    """
    return PinnedPlan(
        ClusterId(message.cluster_id),
        message.revision,
        {name: ServiceId(text) for name, text in message.service_ids.items()},
        tuple(map(_task_from, message.tasks)),
    )


def _task(value: PlannedTask) -> pb.PlannedTask:
    return pb.PlannedTask(
        effect=value.effect.value,
        service=value.service,
        slot=value.slot,
        from_node=value.from_node,
        to_node=value.to_node,
        why=value.why,
        run=value.run,
    )


def _task_from(message: pb.PlannedTask) -> PlannedTask:
    try:
        effect = Effect(message.effect)
    except ValueError:
        raise InvalidError(f"the plan has an effect '{message.effect}', not known here") from None
    return PlannedTask(
        effect,
        message.service,
        message.slot,
        message.from_node,
        message.to_node,
        message.why,
        message.run,
    )


def _spec(value: ServiceSpec | None) -> types_pb2.ServiceSpec | None:
    return None if value is None else codec.to_wire(value, types_pb2.ServiceSpec)


def _node_spec(value: NodeSpec | None) -> types_pb2.NodeSpec | None:
    return None if value is None else codec.to_wire(value, types_pb2.NodeSpec)

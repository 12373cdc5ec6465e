"""Requests on trial, as ``Client.plan`` takes them."""

from collections.abc import Iterable, Mapping

from cluster import codec
from cluster.api.v1 import control_pb2 as wire
from cluster.api.v1 import types_pb2
from cluster.model import Service, ServiceSpec
from clusterctl import asked


def deploy(name: str, services: Iterable[ServiceSpec], *, prune: bool) -> wire.TrialRequest:
    specs = [codec.to_wire(spec, types_pb2.ServiceSpec) for spec in services]
    return wire.TrialRequest(
        deploy_stack=wire.DeployStackRequest(name=name, services=specs, prune=prune)
    )


def remove_stack(name: str) -> wire.TrialRequest:
    return wire.TrialRequest(remove_stack=wire.RemoveStackRequest(stack=name))


def update_service(old: Service, spec: ServiceSpec) -> wire.TrialRequest:
    request = wire.UpdateServiceRequest(
        service=old.id, version=old.version, spec=codec.to_wire(spec, types_pb2.ServiceSpec)
    )
    return wire.TrialRequest(update_service=request)


def scale(replicas: Mapping[str, int]) -> wire.TrialRequest:
    return wire.TrialRequest(scale_services=wire.ScaleServicesRequest(replicas=replicas))


def remove_services(references: Iterable[str]) -> wire.TrialRequest:
    return wire.TrialRequest(remove_services=wire.RemoveServicesRequest(services=references))


def update_node(request: wire.UpdateNodeRequest) -> wire.TrialRequest:
    return wire.TrialRequest(update_node=request)


def remove_node(node: str, *, force: bool) -> wire.TrialRequest:
    return wire.TrialRequest(remove_node=wire.RemoveNodeRequest(node=node, force=force))


def rollback_services(wishes: Mapping[str, int]) -> wire.TrialRequest:
    return wire.TrialRequest(rollback_services=asked.rollback_services(wishes))


def rollback_stack(name: str) -> wire.TrialRequest:
    return wire.TrialRequest(rollback_stack=wire.RollbackStackRequest(stack=name))


def steer_rollout(service: str, action: str) -> wire.TrialRequest:
    return wire.TrialRequest(steer_rollout=asked.steer_rollout(service, action))


def run_job(service: str) -> wire.TrialRequest:
    return wire.TrialRequest(run_job=wire.RunJobRequest(service=service))

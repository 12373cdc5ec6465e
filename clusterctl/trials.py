"""Requests on trial, as ``Client.plan`` takes them."""

from collections.abc import Iterable, Mapping

from cluster import codec
from cluster.api.v1 import control_pb2 as wire
from cluster.api.v1 import types_pb2
from cluster.model import Service, ServiceSpec


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


def drain(node: str, deadline_seconds: float | None = None) -> wire.TrialRequest:
    request = wire.UpdateNodeRequest(
        node=node,
        availability=types_pb2.AVAILABILITY_DRAIN,
        drain_deadline_seconds=deadline_seconds or 0.0,
    )
    return wire.TrialRequest(update_node=request)


def remove_node(node: str, *, force: bool) -> wire.TrialRequest:
    return wire.TrialRequest(remove_node=wire.RemoveNodeRequest(node=node, force=force))

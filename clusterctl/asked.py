"""Requests that are either made or tried: built once for both."""

from collections.abc import Iterable, Mapping

from cluster.api.v1 import control_pb2 as wire
from cluster.api.v1 import types_pb2
from cluster.model import Availability


def update_node(
    reference: str,
    *,
    availability: Availability | None = None,
    set_labels: Mapping[str, str] | None = None,
    remove_labels: Iterable[str] = (),
    task_slots: int | None = None,
    reserve_for: Iterable[str] = (),
    unreserve_for: Iterable[str] = (),
    add_volumes: Iterable[str] = (),
    remove_volumes: Iterable[str] = (),
    drain_deadline_seconds: float = 0.0,
) -> wire.UpdateNodeRequest:
    """Change what is given, whatever it was."""
    request = wire.UpdateNodeRequest(
        node=reference,
        set_labels=set_labels,
        remove_labels=remove_labels,
        task_slots=task_slots,
        reserve_for=reserve_for,
        unreserve_for=unreserve_for,
        add_volumes=add_volumes,
        remove_volumes=remove_volumes,
        drain_deadline_seconds=drain_deadline_seconds,
    )
    if availability is not None:
        request.availability = types_pb2.Availability.Value(f"AVAILABILITY_{availability.name}")
    return request


def rollback_services(wishes: Mapping[str, int]) -> wire.RollbackServicesRequest:
    """Give services earlier specs again; 0 is the last that ran well."""
    found = [wire.RollbackWish(service=name, to=to) for name, to in wishes.items()]
    return wire.RollbackServicesRequest(wishes=found)


def steer_rollout(reference: str, action: str) -> wire.SteerRolloutRequest:
    """Say "promote", "pause" or "resume"."""
    number = wire.RolloutAction.Value(f"ROLLOUT_ACTION_{action.upper()}")
    return wire.SteerRolloutRequest(service=reference, action=number)

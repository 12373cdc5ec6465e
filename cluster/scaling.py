"""How many replicas a service shall have: as somebody asked, or as it scales itself. Pure.

Two writers, two objects: operators write the spec, and with it the range; the leader writes the
``Scaling``. So a deploy of the same file changes nothing of what the measurements have led to,
and no measurement ever changes what somebody has asked for.
"""

import msgspec

from cluster.model import Scaling, Service, ServiceSpec


def wanted_replicas(spec: ServiceSpec, scaling: Scaling | None) -> int:
    """Return how many replicas there shall be.

    Args:
        spec: of the service; its ``replicas`` are what a service that scales itself begins with.
        scaling: what was last decided for it; None before the first decision.
    """
    if spec.autoscale is None:
        return spec.replicas
    number = spec.replicas if scaling is None else scaling.replicas
    return min(max(number, spec.autoscale.min_replicas), spec.autoscale.max_replicas)


def as_scaled(service: Service, scaling: Scaling | None) -> Service:
    """Return *service* with the replicas that it shall have."""
    replicas = wanted_replicas(service.spec, scaling)
    if replicas == service.spec.replicas:
        return service
    spec = msgspec.structs.replace(service.spec, replicas=replicas)
    return msgspec.structs.replace(service, spec=spec)

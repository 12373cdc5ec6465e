"""What objects are called at the moment that is told of."""

from cluster.model import ServiceId
from manager.view import View


def service_names(service_id: str, view: View) -> tuple[str, str]:
    """Return a service's name and its stack's; empty if it is gone."""
    service = view.services.get(ServiceId(service_id))
    return (service.spec.name, service.spec.stack) if service is not None else ("", "")

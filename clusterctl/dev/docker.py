"""What a development cluster leaves in Docker, and its end.

Only what carries the cluster's label is touched, and a container only if its name is the one
that an agent gave it: an image that was committed from one of ours carries the label on.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from cluster.errors import UnavailableError

if TYPE_CHECKING:
    from docker import DockerClient

LABEL = "shoal.cluster"
TASK_LABEL = "shoal.task"

# More at a time only wait for each other inside the daemon.
CONCURRENCY = 4

REQUEST_SECONDS = 60
PING_SECONDS = 5


def connect(address: str, *, seconds: int = REQUEST_SECONDS) -> "DockerClient":
    """Return a client of the Docker daemon at *address*.

    Raises:
        UnavailableError: it does not answer.
    """
    from docker import DockerClient
    from docker.errors import DockerException
    from requests.exceptions import RequestException

    try:
        client = DockerClient(base_url=address, timeout=seconds)
        client.ping()
    except (DockerException, RequestException) as error:
        raise UnavailableError(
            f"Docker does not answer at {address}: is it running? (--docker names another)"
        ) from error
    return client


def clean(address: str, cluster_id: str, *, volumes: bool) -> tuple[int, int, int]:
    """Remove the cluster's containers, networks and volumes; return how many of each.

    Raises:
        UnavailableError: Docker does not answer, or would not.
    """
    from docker.errors import APIError

    client = connect(address)
    label: dict[str, str | list[str] | bool] = {"label": f"{LABEL}={cluster_id}"}
    try:
        containers = [
            each
            for each in client.containers.list(all=True, filters=label, ignore_removed=True)
            if each.labels.get(TASK_LABEL)
            and str(each.name).endswith(f".{each.labels[TASK_LABEL]}")
        ]
        _each(containers, lambda each: each.remove(force=True, v=True))
        networks = client.networks.list(filters=label)
        _each(networks, lambda each: each.remove())
        kept = client.volumes.list(filters=label) if volumes else []
        _each(kept, lambda each: each.remove(force=True))
    except APIError as error:
        raise UnavailableError(f"Docker did not remove everything: {error.explanation}") from error
    finally:
        client.close()
    return len(containers), len(networks), len(kept)


def _each(things: Iterable[Any], remove: Callable[[Any], None]) -> None:
    from docker.errors import NotFound

    def gone(thing: Any) -> None:
        with suppress(NotFound):
            remove(thing)

    with ThreadPoolExecutor(CONCURRENCY) as pool:
        list(pool.map(gone, things))

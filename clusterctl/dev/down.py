"""Ends a development cluster and removes what it has left, on disk and in Docker."""

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from clusterctl.dev import docker, plan
from clusterctl.dev.plan import Plan
from clusterctl.render.people import count

_CLUSTER_FILE = "cluster-id"  # where each agent keeps it


def end(folder: Path, tell: Callable[[str], None], *, volumes: bool) -> bool:
    """End the cluster in *folder* and tell whether there was one.

    Agents go first, so that none starts again what is being removed; files go last, so that
    after a failure the rest can be tried again.

    Raises:
        ClusterError: something would not go.
    """
    old = plan.load(folder)
    if old is None:
        return False
    agents = [old.daemons[name] for name in old.nodes]
    with ThreadPoolExecutor(max(1, len(agents))) as pool:
        stopped = sum(pool.map(lambda agent: agent.stop(), agents))
    for name in ("manager", "etcd"):
        stopped += old.daemons[name].stop()
    tell(f"stopped {count(stopped, 'process').replace('processs', 'processes')}")
    for cluster_id in _cluster_ids(old):
        containers, networks, kept = docker.clean(old.docker, cluster_id, volumes=volumes)
        tell(
            f"removed {count(containers, 'container')}, {count(networks, 'network')} and "
            f"{count(kept, 'volume')}"
        )
    for path in plan.leftovers(folder):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    with suppress(OSError):
        folder.rmdir()  # ours, if nothing else is in it
    return True


def _cluster_ids(old: Plan) -> set[str]:
    """Return the cluster's id from wherever it was written down; a start may have failed."""
    found = {old.cluster_id}
    for name in old.nodes:
        with suppress(OSError):
            found.add(Path(old.folder, name, _CLUSTER_FILE).read_text().strip())
    return found - {""}

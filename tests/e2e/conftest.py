"""One cluster for all tests of this folder: three hosts with Docker, two managers, etcd of three.

Starting it takes as long as two tests, so they share it. Each test may break what it likes:
afterwards all is started again, the cluster has to find itself as promised (``clusterctl
verify``), every stack is removed, and the next test begins only if no host has kept anything.
If that fails, the test fails and the next one gets a new cluster.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.e2e.cluster import LabCluster
from tests.lab.lab import Lab


class Shared:
    """The cluster that is up, if one is."""

    def __init__(self) -> None:
        self._open = ExitStack()
        self._cluster: LabCluster | None = None

    def get(self) -> LabCluster:
        if self._cluster is None:
            cluster = LabCluster(self._open.enter_context(Lab(hosts=3, controls=5)), managers=2)
            try:
                cluster.start()
            except BaseException:
                self.close()
                raise
            self._cluster = cluster
        return self._cluster

    def close(self) -> None:
        self._cluster = None
        self._open.close()


@pytest.fixture(scope="session")
def shared() -> Iterator[Shared]:
    shared = Shared()
    yield shared
    shared.close()


@pytest.fixture
def cluster(shared: Shared, request: pytest.FixtureRequest) -> Iterator[LabCluster]:
    """A cluster that is well and empty."""
    cluster = shared.get()
    yield cluster
    try:
        cluster.restore()
        cluster.tidy()
    except BaseException as error:
        logs = cluster.logs()
        shared.close()
        raise RuntimeError(f"{request.node.name} left the cluster unwell:\n{logs}") from error


@pytest.fixture
def patience(cluster: LabCluster) -> Iterator[None]:
    """Let nodes be away for longer than an agent's restart takes on a machine that is busy."""
    cluster.ctl("cluster", "update", "--heartbeat-period", "3s")
    yield
    cluster.ctl("cluster", "update", "--heartbeat-period", "1s")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Any:
    """Add what the cluster has logged to the report of a failed test."""
    report: pytest.TestReport = yield
    cluster = getattr(item, "funcargs", {}).get("cluster")
    if report.when == "call" and report.failed and cluster is not None:
        report.sections.append(("cluster", cluster.logs()))
    return report

"""The program that keeps changing the cluster (``churn``), as a test has it."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

import msgspec

from scripts.lib.steps import TREE
from tests.e2e.churn import Report
from tests.e2e.cluster import LabCluster
from tests.lab.waiting import wait_until

PROGRESS_SECONDS = 60.0
END_SECONDS = 60.0  # the last request may wait for a cluster that is just mending itself


class Churn:
    """Changes go on from ``with`` on, until ``end`` or the end of the block."""

    def __init__(self, cluster: LabCluster, seed: int) -> None:
        self._cluster = cluster
        self._seed = seed

    def __enter__(self) -> Self:
        cluster = self._cluster
        argv = [sys.executable, "-m", "tests.e2e.churn", cluster.endpoints, cluster.etcd_endpoints]
        self._process = cluster.operator.spawn("churn", [*argv, str(self._seed)], cwd=TREE)
        self.wait_progress()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process.is_running:
            self._process.kill()

    def wait_progress(self, count: int = 2) -> None:
        """Wait until so many more changes were acknowledged."""
        enough = self._acknowledged() + count

        def go_on() -> bool:
            if not self._process.is_running:
                raise RuntimeError(f"nobody changes anything any more:\n{self._process.tail()}")
            return self._acknowledged() >= enough

        what = f"{count} more changes are acknowledged"
        wait_until(go_on, what, seconds=PROGRESS_SECONDS)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Change nothing for a while."""
        self._process.pause()
        try:
            yield
        finally:
            self._process.resume()

    def end(self) -> Report:
        """Change nothing more; return what came of all that was changed."""
        code = self._process.stop(END_SECONDS)
        if code:
            raise RuntimeError(f"the changes ended with {code}:\n{self._process.tail()}")
        return msgspec.json.decode(self._process.output().splitlines()[-1], type=Report)

    def _acknowledged(self) -> int:
        return self._process.output().count("\nacknowledged ")

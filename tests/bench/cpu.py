"""CPU time that a lab has used: what a sample costs, however busy the machine is otherwise.

On a machine that others use too, seconds tell as much of them as of us; CPU time does not.
"""

import time
from collections.abc import Callable
from pathlib import Path

from tests.lab.cgroups import ROOT, is_unified

_NANOS, _MICROS = 1e9, 1e6


def seconds_of(lab_id: str) -> float:
    """Return the CPU seconds of all hosts of a lab since it was opened: daemons, containers, us."""
    if is_unified():
        lines = (ROOT / lab_id / "cpu.stat").read_text().splitlines()
        return int(dict(line.split() for line in lines)["usage_usec"]) / _MICROS
    return int(Path(ROOT, "cpuacct", lab_id, "cpuacct.usage").read_text()) / _NANOS


def meter(lab_id: str) -> Callable[[], float]:
    """Return a function that tells how much was used since this moment, by us here too."""
    began = seconds_of(lab_id) + time.process_time()
    return lambda: seconds_of(lab_id) + time.process_time() - began

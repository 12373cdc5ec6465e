"""What half of the clusters have beside the plain: devices, hosts set aside, volumes, load.

Drawn by a source of its own, so that the other half's runs are what they would be without it.
"""

import random
from collections.abc import Iterator, Sequence

import msgspec

from tests.simulator.workload import Wish

# What the hosts offer in turn: devices by name, devices by number, or nothing.
OFFERS: Sequence[tuple[str, ...]] = (("gpu=g0,g1",), (), ("fpga=2", "gpu=1"), (), ())
DEVICES = ("gpu", "gpu", "fpga")

VOLUMES = ("v0", "v1", "v2")

TEAM = "db"  # for whom hosts are set aside

# In tasks: none is so near a whole number that one more or less would do as well.
LOADS = (0.5, 1.5, 2.5, 3.5)

# How often an operator sees to a host's equipment, against all other incidents.
SHARE = 0.06


class Equipment:
    """Draws for one purpose; two with the same arguments draw the same.

    Args:
        seed: of the run.
        purpose: what is drawn for.
    """

    def __init__(self, seed: int, purpose: str) -> None:
        self._is_there = random.Random(f"{seed}/equipment").random() < 0.5
        self._source = random.Random(f"{seed}/equipment/{purpose}")

    def offers(self, number: int) -> tuple[str, ...]:
        """Return what a host offers, as its agent's settings say it."""
        return OFFERS[number % len(OFFERS)] if self._is_there else ()

    def used_by(self, wish: Wish) -> Wish:
        """Return *wish*, which may need some of it now."""
        if not self._is_there or wish.is_job:
            return wish
        source = self._source
        scales = not wish.is_global and source.random() < 0.15
        return msgspec.structs.replace(
            wish,
            most=source.randint(1, 4) if scales else 0,
            load=source.choice(LOADS) if scales else 0.0,
            memory_mib=max(wish.memory_mib, 64) if scales else wish.memory_mib,
            device=source.choice(DEVICES) if source.random() < 0.2 else "",
            volume=source.choice(VOLUMES) if source.random() < 0.15 else "",
            tolerates=TEAM if source.random() < 0.3 else "",
        )

    def changes(self, agents: Sequence[str]) -> Iterator[tuple[str, dict[str, str | bool]]]:
        """Yield what an operator asks for just now: mostly nothing, else a request and its parameters."""
        source = self._source
        if not self._is_there or source.random() >= SHARE:
            return
        node, is_set = source.choice(agents), source.random() < 0.5
        if source.random() < 0.5:
            yield "reserve_node", {"node": node, "team": TEAM, "is_set": is_set}
        else:
            yield "house", {"node": node, "volume": source.choice(VOLUMES), "is_set": is_set}

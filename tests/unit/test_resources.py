"""Amounts: their arithmetic, in every dimension; and what a container is told of its own."""

import pytest

from cluster import generic
from cluster.resources import Resources


def amount(cpu: int = 0, memory: int = 0, **counts: int) -> Resources:
    return Resources(cpu_nanos=cpu, memory_bytes=memory, generic=counts)


def test_amounts_add_up_and_come_back() -> None:
    both = amount(1, 2, gpu=1) + amount(3, 4, gpu=2, disk=5)

    assert both == amount(4, 6, gpu=3, disk=5)
    assert both - amount(3, 4, gpu=2, disk=5) == amount(1, 2, gpu=1)
    assert amount(gpu=1) - amount(gpu=3) == amount(gpu=-2)


def test_equal_amounts_are_one_key() -> None:
    assert len({amount(1, gpu=1), amount(1, gpu=1), amount(1), amount(1, gpu=2)}) == 3
    assert amount(gpu=1) - amount(gpu=1) == amount()


@pytest.mark.parametrize(
    ("needed", "missing"),
    [
        (amount(4, 8, gpu=2), amount()),
        (amount(5, 8), amount(cpu=1)),
        (amount(4, 9), amount(memory=1)),
        (amount(gpu=4), amount(gpu=2)),
        (amount(disk=1, gpu=1), amount(disk=1)),
    ],
)
def test_what_is_missing_is_told_and_nothing_else(needed: Resources, missing: Resources) -> None:
    available = amount(4, 8, gpu=2, tape=1)

    assert needed.shortfall(available) == missing
    assert needed.fits(available) is (missing == amount())


def test_a_container_is_told_the_names_of_its_own_or_how_many() -> None:
    told = generic.environment({"nvidia-gpu": 2, "disk": 3}, {"nvidia-gpu": ("a", "b")})

    assert told == {
        "SHOAL_RESOURCE_NVIDIA_GPU": "a,b",
        "DOCKER_RESOURCE_NVIDIA-GPU": "a,b",
        "SHOAL_RESOURCE_DISK": "3",
        "DOCKER_RESOURCE_DISK": "3",
    }


@pytest.mark.parametrize("item", ["0", "GPU-8b2c", "0000:65:00.0", "/dev/sda", "a" * 128])
def test_names_of_items_are_what_tools_print(item: str) -> None:
    assert generic.item_flaw(item) == ""


@pytest.mark.parametrize("item", ["", "a b", "a,b", "a" * 129, "-a"])
def test_a_name_must_survive_a_list_with_commas(item: str) -> None:
    assert "must be a name" in generic.item_flaw(item)

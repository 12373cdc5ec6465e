"""What Docker writes into the machine's packet filter, and how to take it out again.

Only Docker's own chains, and rules that lead to them or name its bridge, are touched.
"""

import re
import subprocess
from collections.abc import Iterator, Mapping

from scripts.lib.machine import which
from scripts.lib.steps import ScriptError, run_quietly

FAMILIES = ("iptables", "ip6tables")

DOCKERS = re.compile(r"\bDOCKER|\bdocker0\b|\bbr-[0-9a-f]{12}\b")


def _tables(family: str) -> Iterator[tuple[str, list[str]]]:
    """Yield each table's name and its lines, as ``iptables-save`` prints them."""
    if which(f"{family}-save") is None:
        return
    try:
        saved = run_quietly([f"{family}-save"])
    except ScriptError:
        return  # a kernel without IPv6, say
    for table in re.split(r"^\*", saved, flags=re.MULTILINE)[1:]:
        name, *lines = table.splitlines()
        yield name, lines


def has_docker_rules() -> bool:
    """Tell whether some Docker daemon has its chains in the packet filter."""
    return any(
        line.startswith(":DOCKER")
        for family in FAMILIES
        for _, lines in _tables(family)
        for line in lines
    )


def forward_policies() -> dict[str, str]:
    """Return what becomes of a forwarded packet that no rule matches, for each family."""
    return {
        family: line.split(" ")[1]
        for family in FAMILIES
        for name, lines in _tables(family)
        for line in lines
        if name == "filter" and line.startswith(":FORWARD ")
    }


def removal(name: str, lines: list[str], policy: str) -> str:
    """Return what ``iptables-restore --noflush`` needs to take Docker's part out of a table."""
    chains = [line[1:].split(" ")[0] for line in lines if line.startswith(":DOCKER")]
    rules = [line for line in lines if line.startswith("-A ") and DOCKERS.search(line)]
    elsewhere = [rule for rule in rules if rule.split(" ")[1] not in chains]
    return "\n".join(
        [
            f"*{name}",
            *([f":FORWARD {policy} [0:0]"] if name == "filter" else []),
            *(f"-D{rule.removeprefix('-A')}" for rule in elsewhere),
            *(f"-F {chain}" for chain in chains),
            *(f"-X {chain}" for chain in chains),
            "COMMIT\n",
        ]
    )


def remove_docker_rules(policies: Mapping[str, str]) -> None:
    """Take out Docker's chains and rules, and set the FORWARD policies to *policies*."""
    for family in FAMILIES:
        script = "".join(
            removal(name, lines, policies.get(family, "ACCEPT")) for name, lines in _tables(family)
        )
        if script:
            restore = [f"{family}-restore", "--noflush"]
            subprocess.run(restore, input=script, text=True, check=True, capture_output=True)

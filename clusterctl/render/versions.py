"""The versions of a service for people and programs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cluster.differences import Difference, differences
from cluster.model import Rollout, RolloutState, ServiceMode, ServiceVersion
from clusterctl.answers import Versions
from clusterctl.render.difference import brief
from clusterctl.render.output import Kind
from clusterctl.render.people import ago, moment


@dataclass(frozen=True, slots=True)
class Row:
    """One version.

    Attributes:
        changed: against the version before; nothing of the oldest.
        status: in a word or two.
    """

    version: ServiceVersion
    changed: Sequence[Difference]
    status: str


def rows(known: Versions) -> list[Row]:
    """Return the versions with what changed in each, the newest first."""
    found: list[Row] = []
    before: ServiceVersion | None = None
    for version in known.versions:
        changed = list(differences(before.spec, version.spec)) if before else []
        found.append(Row(version, changed, _status(known, version.number)))
        before = version
    return found[::-1]


def _status(known: Versions, number: int) -> str:
    service, rollout = known.service.service, known.service.rollout
    words = []
    if number == service.spec_version:
        words.append("present")
    if rollout is not None:
        words += _rollout_words(rollout, number)
    return ", ".join(words)


def _rollout_words(rollout: Rollout, number: int) -> list[str]:
    words = []
    if number == rollout.spec_version and rollout.state is not RolloutState.COMPLETED:
        words.append(rollout.state.value)
    elif number == rollout.target and rollout.state.failed:
        words.append("runs instead")
    if number in rollout.healthy:
        words.append("ran well")
    return words


def kind(now: float) -> Kind[Row]:
    return Kind(
        columns=(
            ("VERSION", lambda each: str(each.version.number)),
            ("CREATED", lambda each: ago(each.version.created_at, now)),
            ("IMAGE", lambda each: each.version.spec.task.container.image.partition("@")[0]),
            ("REPLICAS", _replicas),
            ("CHANGED", lambda each: brief(each.changed)),
            ("STATUS", lambda each: each.status),
        ),
        row=_row,
        identity=lambda each: str(each.version.number),
    )


def _replicas(each: Row) -> str:
    spec = each.version.spec
    return str(spec.replicas) if spec.mode is ServiceMode.REPLICATED else spec.mode.value


def _row(each: Row) -> dict[str, Any]:
    return {
        "version": each.version.number,
        "created_at": moment(each.version.created_at),
        "image": each.version.spec.task.container.image,
        "replicas": each.version.spec.replicas,
        "changed": list(dict.fromkeys(one.path for one in each.changed)),
        "status": each.status,
    }

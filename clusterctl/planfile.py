"""Plans in files: saved when they were shown, deployed as they are, refused when edited.

A file holds what is to be deployed, values of environment variables included, so only its owner
may read it. Its digest is no lock: whoever edits a plan can make another digest. It tells of
slips; that nothing else is done than what the plan shows is the manager's to see to.
"""

import hashlib
import os
from pathlib import Path

import msgspec

from cluster.api.v1 import control_pb2 as wire
from cluster.errors import InvalidError
from cluster.model import ServiceSpec
from clusterctl.answers import Plan, PlannedTask
from clusterctl.composing import FILE_BYTES_MAX

FORMAT = "shoal-plan-1"


class PlanFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A saved plan of a stack's deploy.

    Attributes:
        form: which kind of file this is.
        service_ids: of the services that are new, by name.
        digest: of all the rest.
    """

    form: str = ""
    cluster_id: str
    revision: int
    stack: str
    prune: bool
    services: tuple[ServiceSpec, ...]
    service_ids: dict[str, str]
    tasks: tuple[PlannedTask, ...]
    digest: str = ""

    def pinned(self) -> wire.PinnedPlan:
        """Return what the manager holds the deploy to."""
        return wire.PinnedPlan(
            cluster_id=self.cluster_id,
            revision=self.revision,
            service_ids=self.service_ids,
            tasks=[
                wire.PlannedTask(
                    effect=each.effect,
                    service=each.service,
                    slot=each.slot,
                    from_node=each.from_node,
                    to_node=each.to_node,
                    why=each.why,
                    run=each.run,
                )
                for each in self.tasks
            ],
        )


def save(
    path: Path, plan: Plan, stack: str, services: tuple[ServiceSpec, ...], *, prune: bool
) -> None:
    """Write a plan, for its owner's eyes only.

    Raises:
        InvalidError: the file cannot be written.
    """
    unsigned = PlanFile(
        form=FORMAT,
        cluster_id=plan.cluster_id,
        revision=plan.revision,
        stack=stack,
        prune=prune,
        services=services,
        service_ids={each.name: each.service_id for each in plan.services if each.before is None},
        tasks=plan.tasks,
    )
    signed = msgspec.structs.replace(unsigned, digest=_digest(unsigned))
    text = msgspec.json.format(msgspec.json.encode(signed), indent=2) + b"\n"
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, 0o600)  # also if it was there before
            file.write(text)
    except OSError as error:
        raise InvalidError(f"cannot write {path}: {error.strerror}") from error


def load(path: Path) -> PlanFile:
    """Return a saved plan.

    Raises:
        InvalidError: it cannot be read, is no plan, or was edited.
    """
    try:
        with path.open("rb") as file:
            text = file.read(FILE_BYTES_MAX)
    except OSError as error:
        raise InvalidError(f"cannot read {path}: {error.strerror}") from error
    try:
        plan = msgspec.json.decode(text, type=PlanFile)
    except msgspec.MsgspecError as error:
        raise InvalidError(f"{path} is no plan, or was edited: {error}; plan again") from error
    if plan.form != FORMAT:
        raise InvalidError(f"{path} is a plan of form '{plan.form}', not {FORMAT}: plan again")
    if plan.digest != _digest(plan):
        raise InvalidError(
            f"{path} was edited after it was planned: what it shows is no longer what was"
            " forecast; change the Compose file and plan again (`clusterctl stack plan --out`)"
        )
    return plan


def _digest(plan: PlanFile) -> str:
    unsigned = msgspec.structs.replace(plan, digest="")
    return hashlib.sha256(msgspec.json.encode(unsigned, order="deterministic")).hexdigest()

"""How etcd's members do, for people: what ``clusterctl cluster info`` shows."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cluster.errors import ClusterError
from manager.store.etcd import etcd_pb2 as pb
from manager.store.etcd.endpoint import CallFailedError, Endpoint, Method
from manager.store.etcd.endpoints import Endpoints
from manager.store.etcd.wire import REQUIRE_LEADER

# All members are asked at once, and someone waits at a prompt.
STATUS_SECONDS = 1.0

STATUS: Method[pb.StatusRequest, pb.StatusResponse] = Method(
    "/etcdserverpb.Maintenance/Status", pb.StatusResponse
)
MEMBERS: Method[pb.MemberListRequest, pb.MemberListResponse] = Method(
    "/etcdserverpb.Cluster/MemberList", pb.MemberListResponse
)


@dataclass(frozen=True, slots=True)
class MemberStatus:
    """One member; what it could not be asked is empty, zero or false."""

    endpoint: str
    name: str = ""
    reachable: bool = False
    leads: bool = False
    learner: bool = False
    version: str = ""
    database_bytes: int = 0
    trouble: str = ""  # in words: why it cannot be reached, or the alarms that it raises


@dataclass(frozen=True, slots=True)
class _Told:
    """What one endpoint told of itself, and of all members."""

    status: pb.StatusResponse
    members: Sequence[pb.Member]


async def member_statuses(endpoints: Endpoints) -> Sequence[MemberStatus]:
    """Ask every endpoint at once; members that no endpoint stands for come last."""
    answers = await asyncio.gather(*(_ask(endpoints, endpoint) for endpoint in endpoints.ring))
    members = {
        member.ID: member
        for answer in answers
        if isinstance(answer, _Told)
        for member in answer.members
    }
    statuses = [
        _status(endpoint.address, answer, members)
        for endpoint, answer in zip(endpoints.ring, answers, strict=True)
    ]
    named = {status.name for status in statuses}
    return statuses + [
        MemberStatus(
            endpoint=", ".join(_addresses(member)),
            name=member.name,
            learner=member.isLearner,
            trouble="it is not among the configured endpoints",
        )
        for member in members.values()
        if member.name not in named
    ]


def _status(address: str, answer: _Told | str, members: Mapping[int, pb.Member]) -> MemberStatus:
    if isinstance(answer, str):
        names = [member.name for member in members.values() if address in _addresses(member)]
        return MemberStatus(endpoint=address, name="".join(names[:1]), trouble=answer)
    status = answer.status
    own_id = status.header.member_id
    return MemberStatus(
        endpoint=address,
        name=members[own_id].name if own_id in members else "",
        reachable=True,
        leads=status.leader == own_id,
        learner=status.isLearner,
        version=status.version,
        database_bytes=status.dbSize,
        trouble="; ".join(status.errors),
    )


async def _ask(endpoints: Endpoints, endpoint: Endpoint) -> _Told | str:
    """Return what the member tells, or in words why it does not."""
    if not await endpoint.connect(STATUS_SECONDS):
        return "cannot connect"
    try:
        # A member that has lost its leader is asked all the same.
        metadata = [one for one in await endpoints.metadata(endpoint) if one != REQUIRE_LEADER]
        status = await endpoint.call(STATUS, pb.StatusRequest(), metadata, STATUS_SECONDS)
        listing = await endpoint.call(MEMBERS, pb.MemberListRequest(), metadata, STATUS_SECONDS)
    except (CallFailedError, ClusterError) as failure:
        return str(failure)
    return _Told(status, listing.members)


def _addresses(member: pb.Member) -> list[str]:
    return [url.partition("://")[2] for url in member.clientURLs]

"""Operators: they ask for things at the worst moment, through the real API, and keep the receipts."""

import asyncio
import math
from typing import Any, cast

import grpc
from grpc import aio

from cluster import codec
from cluster.api.v1 import control_pb2 as pb
from cluster.api.v1 import types_pb2
from cluster.api.v1.control_pb2_grpc import ControlStub
from cluster.invariants import Breach
from cluster.model import Availability, ClusterSpec, Node, Service
from tests.simulator.hosts import World
from tests.simulator.loop import Process
from tests.simulator.rpc import Wire
from tests.simulator.workload import Wish

HOST = "desk"

PATIENCE_SECONDS = 10.0

_AVAILABILITIES = {
    Availability.ACTIVE: types_pb2.AVAILABILITY_ACTIVE,
    Availability.PAUSE: types_pb2.AVAILABILITY_PAUSE,
    Availability.DRAIN: types_pb2.AVAILABILITY_DRAIN,
}

_ACTIONS = {
    "pause": pb.ROLLOUT_ACTION_PAUSE,
    "resume": pb.ROLLOUT_ACTION_RESUME,
    "promote": pb.ROLLOUT_ACTION_PROMOTE,
}

# A manager refuses what cannot be now; these say that it is broken.
_DEFECTS = (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.UNIMPLEMENTED)


class Operators:
    """Each request goes to any of the managers, over a connection of its own.

    Attributes:
        acknowledged, refused: how many were.
    """

    def __init__(self, world: World, managers: tuple[str, ...]) -> None:
        self.acknowledged = 0
        self.refused = 0
        self._world = world
        self._judge = world.judge
        self._managers = managers
        self._source = world.source("operators")
        self.process = Process(HOST)
        self._wire = Wire(world.loop, world.network, self.process, HOST, copies=world.copies)

    async def ask(self, what: str, wanted: dict[str, Any]) -> bool:
        """Ask for something; return whether it was acknowledged."""
        channel = self._wire.channel(self._source.choice(self._managers))
        try:
            stub = ControlStub(cast(aio.Channel, channel))
            await getattr(self, f"_{what}")(stub, **wanted)
        except aio.AioRpcError as error:
            self.refused += 1
            self._world.tell(HOST, f"{what} {wanted}: {error.code().name} {error.details()}")
            if error.code() in _DEFECTS:
                text = f"a manager failed at {what} {wanted}: {error.code().name} {error.details()}"
                self._judge.found(Breach("defect", (), text))
            return False
        else:
            self.acknowledged += 1
            self._world.tell(HOST, f"{what} {wanted}: acknowledged")
            return True
        finally:
            await channel.close()

    async def insist(
        self, what: str, *, every_seconds: float, until: float = math.inf, **wanted: Any
    ) -> None:
        """Ask for something until it is acknowledged, or it is later than *until*."""
        while not await self.ask(what, wanted) and self._world.loop.now < until:
            await asyncio.sleep(every_seconds)

    async def _set_up(self, stub: Any, *, spec: ClusterSpec) -> None:
        request = pb.UpdateClusterRequest(spec=codec.to_wire(spec, types_pb2.ClusterSpec))
        await stub.UpdateCluster(request, timeout=PATIENCE_SECONDS)

    async def _rebalance(self, stub: Any, *, moves: int) -> None:
        await stub.Rebalance(pb.RebalanceRequest(max_moves=moves), timeout=PATIENCE_SECONDS)

    # --- services ---

    async def _want(self, stub: Any, *, wish: Wish) -> None:
        """Create a service, or replace what it is."""
        spec = codec.to_wire(wish.spec(), types_pb2.ServiceSpec)
        try:
            answer = await stub.GetService(
                pb.GetServiceRequest(service=spec.name), timeout=PATIENCE_SECONDS
            )
        except aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.NOT_FOUND:
                raise
            made = await stub.CreateService(
                pb.CreateServiceRequest(spec=spec), timeout=PATIENCE_SECONDS
            )
            self._receipt(made.service)
        else:
            old = answer.service.service
            request = pb.UpdateServiceRequest(service=old.id, version=old.version, spec=spec)
            done = await stub.UpdateService(request, timeout=PATIENCE_SECONDS)
            self._receipt(done.service)

    async def _scale(self, stub: Any, *, name: str, replicas: int) -> None:
        request = pb.ScaleServicesRequest(replicas={name: replicas})
        answer = await stub.ScaleServices(request, timeout=PATIENCE_SECONDS)
        for service in answer.services:
            self._receipt(service)

    async def _steer(self, stub: Any, *, name: str, action: str) -> None:
        request = pb.SteerRolloutRequest(service=name, action=_ACTIONS[action])
        self._receipt((await stub.SteerRollout(request, timeout=PATIENCE_SECONDS)).service)

    async def _rollback(self, stub: Any, *, name: str) -> None:
        request = pb.RollbackServicesRequest(wishes=[pb.RollbackWish(service=name)])
        answer = await stub.RollbackServices(request, timeout=PATIENCE_SECONDS)
        for each in answer.services:
            self._receipt(each.service)

    async def _run_job(self, stub: Any, *, name: str) -> None:
        request = pb.RunJobRequest(service=name)
        self._receipt((await stub.RunJob(request, timeout=PATIENCE_SECONDS)).service)

    async def _suspend(self, stub: Any, *, name: str, suspended: bool) -> None:
        request = pb.SuspendJobRequest(service=name, suspended=suspended)
        self._receipt((await stub.SuspendJob(request, timeout=PATIENCE_SECONDS)).service)

    async def _remove(self, stub: Any, *, name: str) -> None:
        found = await stub.GetService(pb.GetServiceRequest(service=name), timeout=PATIENCE_SECONDS)
        service_id = found.service.service.id
        request = pb.RemoveServicesRequest(services=[service_id])
        await stub.RemoveServices(request, timeout=PATIENCE_SECONDS)
        self._judge.acknowledged_removal(service_id)

    async def _deploy(self, stub: Any, *, stack: str, wishes: list[Wish], prune: bool) -> None:
        request = pb.DeployStackRequest(
            name=stack,
            services=[codec.to_wire(wish.spec(), types_pb2.ServiceSpec) for wish in wishes],
            prune=prune,
        )
        answer = await stub.DeployStack(request, timeout=PATIENCE_SECONDS)
        for each in answer.services:
            if each.action == pb.DEPLOY_ACTION_REMOVED:
                self._judge.acknowledged_removal(each.service.id)
            else:
                self._receipt(each.service)

    async def _remove_stack(self, stub: Any, *, stack: str) -> None:
        await stub.RemoveStack(pb.RemoveStackRequest(stack=stack), timeout=PATIENCE_SECONDS)

    def _receipt(self, service: types_pb2.Service) -> None:
        self._judge.acknowledged_service(codec.from_wire(service, Service))

    # --- nodes ---

    async def _set_node(
        self, stub: Any, *, node: str, availability: str, deadline: float = 0.0
    ) -> None:
        request = pb.UpdateNodeRequest(
            node=node,
            availability=_AVAILABILITIES[Availability(availability)],
            drain_deadline_seconds=deadline,
        )
        await self._change_node(stub, request)

    async def _label_node(self, stub: Any, *, node: str, zone: str) -> None:
        await self._change_node(stub, pb.UpdateNodeRequest(node=node, set_labels={"zone": zone}))

    async def _limit_node(self, stub: Any, *, node: str, slots: int) -> None:
        await self._change_node(stub, pb.UpdateNodeRequest(node=node, task_slots=slots))

    async def _reserve_node(self, stub: Any, *, node: str, team: str, is_set: bool) -> None:
        request = pb.UpdateNodeRequest(node=node)
        (request.reserve_for if is_set else request.unreserve_for).append(team)
        await self._change_node(stub, request)

    async def _house(self, stub: Any, *, node: str, volume: str, is_set: bool) -> None:
        request = pb.UpdateNodeRequest(node=node)
        (request.add_volumes if is_set else request.remove_volumes).append(volume)
        await self._change_node(stub, request)

    async def _change_node(self, stub: Any, request: pb.UpdateNodeRequest) -> None:
        answer = await stub.UpdateNode(request, timeout=PATIENCE_SECONDS)
        self._judge.acknowledged_node(codec.from_wire(answer.node, Node))

    async def _remove_node(self, stub: Any, *, node: str, force: bool) -> None:
        request = pb.RemoveNodeRequest(node=node, force=force)
        await stub.RemoveNode(request, timeout=PATIENCE_SECONDS)

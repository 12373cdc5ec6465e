"""The Control API's edge: decode, call, encode."""
# ruff: noqa: N802, ARG002 - gRPC's names, and its signature for all of them

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, TypeVar

from cluster import codec
from cluster.api.v1 import control_pb2 as pb
from cluster.api.v1 import types_pb2
from cluster.api.v1.control_pb2_grpc import ControlServicer
from cluster.model import ClusterSpec, ServiceSpec
from manager.control.cluster import Clusters
from manager.control.events import Asked, Events
from manager.control.logs import Logs
from manager.control.nodes import Nodes
from manager.control.rebalancing import Rebalancing
from manager.control.rollouts import Rollouts
from manager.control.services import Services
from manager.control.stacks import Stacks
from manager.control.tasks import Tasks
from manager.control.usage import Usages
from manager.control.watching import Watching
from manager.control.whatif import WhatIf
from manager.forecast.desk import Forecasts
from manager.forecast.pinned import PinnedDeploys
from manager.rpc import messages, trials
from manager.rpc.refusals import refusals

T = TypeVar("T")
M = TypeVar("M")

# Objects encoded in one turn of the event loop: some ten milliseconds.
ENCODED_AT_ONCE = 500

Context = Any  # grpc.aio's context; the generated code asks for a mixture that does not exist


@dataclass(frozen=True, slots=True)
class ControlParts:
    """What the edge leads to."""

    clusters: Clusters
    nodes: Nodes
    usages: Usages
    services: Services
    rollouts: Rollouts
    tasks: Tasks
    what_if: WhatIf
    rebalancing: Rebalancing
    stacks: Stacks
    watching: Watching
    logs: Logs
    events: Events
    forecasts: Forecasts
    pinned: PinnedDeploys


async def encoded(values: Sequence[T], encode: Callable[[T], M]) -> list[M]:
    """Encode a list that may be long, and let others have a turn now and then."""
    found: list[M] = []
    for index, value in enumerate(values, 1):
        found.append(encode(value))
        if index % ENCODED_AT_ONCE == 0:
            await asyncio.sleep(0)
    return found


class ControlEdge(ControlServicer):
    """Serves the Control API."""

    def __init__(self, parts: ControlParts) -> None:
        self._parts = parts

    # --- the cluster ---

    async def GetClusterInfo(
        self, request: pb.GetClusterInfoRequest, context: Context
    ) -> pb.GetClusterInfoResponse:
        async with refusals(context):
            return messages.cluster_info(await self._parts.clusters.info())

    async def UpdateCluster(
        self, request: pb.UpdateClusterRequest, context: Context
    ) -> pb.UpdateClusterResponse:
        async with refusals(context):
            spec = codec.from_wire(request.spec, ClusterSpec)
            cluster = await self._parts.clusters.update(request.version, spec)
            return pb.UpdateClusterResponse(cluster=codec.to_wire(cluster, types_pb2.Cluster))

    async def Rebalance(
        self, request: pb.RebalanceRequest, context: Context
    ) -> pb.RebalanceResponse:
        async with refusals(context):
            answer = await self._parts.rebalancing.ask(request.max_moves, plan=request.plan)
            return messages.rebalanced(answer)

    # --- nodes ---

    async def ListNodes(
        self, request: pb.ListNodesRequest, context: Context
    ) -> pb.ListNodesResponse:
        async with refusals(context):
            nodes = await self._parts.nodes.all()
            return pb.ListNodesResponse(nodes=await encoded(nodes, messages.node_summary))

    async def GetNode(self, request: pb.GetNodeRequest, context: Context) -> pb.GetNodeResponse:
        async with refusals(context):
            node = await self._parts.nodes.get(request.node)
            return pb.GetNodeResponse(node=messages.node_summary(node))

    async def UpdateNode(
        self, request: pb.UpdateNodeRequest, context: Context
    ) -> pb.UpdateNodeResponse:
        async with refusals(context):
            change = messages.node_change_from(request)
            node = await self._parts.nodes.update(request.node, change, version=request.version)
            return pb.UpdateNodeResponse(node=messages.node(node))

    async def RemoveNode(
        self, request: pb.RemoveNodeRequest, context: Context
    ) -> pb.RemoveNodeResponse:
        async with refusals(context):
            await self._parts.nodes.remove(request.node, force=request.force)
            return pb.RemoveNodeResponse()

    async def GetUsage(self, request: pb.GetUsageRequest, context: Context) -> pb.GetUsageResponse:
        async with refusals(context):
            usages = self._parts.usages
            found = usages.local() if request.local else await usages.everywhere()
            return pb.GetUsageResponse(nodes=map(messages.heard_usage, found.values()))

    # --- services ---

    async def CreateService(
        self, request: pb.CreateServiceRequest, context: Context
    ) -> pb.CreateServiceResponse:
        async with refusals(context):
            spec = codec.from_wire(request.spec, ServiceSpec)
            service = await self._parts.services.create(spec)
            return pb.CreateServiceResponse(service=messages.service(service))

    async def ListServices(
        self, request: pb.ListServicesRequest, context: Context
    ) -> pb.ListServicesResponse:
        async with refusals(context):
            services = await self._parts.services.all(request.stack)
            return pb.ListServicesResponse(
                services=await encoded(services, messages.service_summary)
            )

    async def GetService(
        self, request: pb.GetServiceRequest, context: Context
    ) -> pb.GetServiceResponse:
        async with refusals(context):
            service = await self._parts.services.get(request.service)
            return pb.GetServiceResponse(service=messages.service_summary(service))

    async def UpdateService(
        self, request: pb.UpdateServiceRequest, context: Context
    ) -> pb.UpdateServiceResponse:
        async with refusals(context):
            spec = codec.from_wire(request.spec, ServiceSpec)
            service = await self._parts.services.update(request.service, request.version, spec)
            return pb.UpdateServiceResponse(service=messages.service(service))

    async def ScaleServices(
        self, request: pb.ScaleServicesRequest, context: Context
    ) -> pb.ScaleServicesResponse:
        async with refusals(context):
            services = await self._parts.services.scale(dict(request.replicas))
            return pb.ScaleServicesResponse(services=map(messages.service, services))

    async def RemoveServices(
        self, request: pb.RemoveServicesRequest, context: Context
    ) -> pb.RemoveServicesResponse:
        async with refusals(context):
            await self._parts.services.remove(request.services)
            return pb.RemoveServicesResponse()

    # --- versions and rollouts ---

    async def ListVersions(
        self, request: pb.ListVersionsRequest, context: Context
    ) -> pb.ListVersionsResponse:
        async with refusals(context):
            summary, versions = await self._parts.rollouts.versions(request.service)
            return pb.ListVersionsResponse(
                service=messages.service_summary(summary),
                versions=[codec.to_wire(each, types_pb2.ServiceVersion) for each in versions],
            )

    async def RollbackServices(
        self, request: pb.RollbackServicesRequest, context: Context
    ) -> pb.RollbackServicesResponse:
        async with refusals(context):
            wishes = messages.rollback_wishes_from(request)
            done = await self._parts.rollouts.rollback(wishes)
            return pb.RollbackServicesResponse(services=map(messages.rolled_back, done))

    async def RollbackStack(
        self, request: pb.RollbackStackRequest, context: Context
    ) -> pb.RollbackServicesResponse:
        async with refusals(context):
            done = await self._parts.rollouts.rollback_stack(request.stack)
            return pb.RollbackServicesResponse(services=map(messages.rolled_back, done))

    async def SteerRollout(
        self, request: pb.SteerRolloutRequest, context: Context
    ) -> pb.SteerRolloutResponse:
        async with refusals(context):
            action = messages.rollout_action_from(request.action)
            service = await self._parts.rollouts.steer(request.service, action)
            return pb.SteerRolloutResponse(service=messages.service(service))

    async def RunJob(self, request: pb.RunJobRequest, context: Context) -> pb.RunJobResponse:
        async with refusals(context):
            service = await self._parts.services.run_job(request.service)
            return pb.RunJobResponse(service=messages.service(service))

    async def SuspendJob(
        self, request: pb.SuspendJobRequest, context: Context
    ) -> pb.SuspendJobResponse:
        async with refusals(context):
            service = await self._parts.services.suspend_job(
                request.service, suspended=request.suspended
            )
            return pb.SuspendJobResponse(service=messages.service(service))

    # --- tasks ---

    async def ListTasks(
        self, request: pb.ListTasksRequest, context: Context
    ) -> pb.ListTasksResponse:
        async with refusals(context):
            tasks = await self._parts.tasks.all(
                service=request.service,
                node=request.node,
                stack=request.stack,
                ended=request.all,
            )
            return pb.ListTasksResponse(tasks=await encoded(tasks, messages.task_summary))

    async def GetTask(self, request: pb.GetTaskRequest, context: Context) -> pb.GetTaskResponse:
        async with refusals(context):
            summary, spec = await self._parts.tasks.get(request.task)
            return pb.GetTaskResponse(
                task=messages.task_summary(summary), spec=codec.to_wire(spec, types_pb2.TaskSpec)
            )

    async def ExplainTask(
        self, request: pb.ExplainTaskRequest, context: Context
    ) -> pb.ExplainTaskResponse:
        async with refusals(context):
            explained = await self._parts.tasks.explain(request.task)
            verdicts = await encoded(explained.verdicts, messages.verdict)
            return messages.explanation(explained, verdicts)

    async def WhatIf(self, request: pb.WhatIfRequest, context: Context) -> pb.WhatIfResponse:
        async with refusals(context):
            return messages.outlook(await self._parts.what_if.ask(messages.asked_from(request)))

    # --- stacks ---

    async def DeployStack(
        self, request: pb.DeployStackRequest, context: Context
    ) -> pb.DeployStackResponse:
        async with refusals(context):
            specs = trials.specs_from(request)
            if request.HasField("pinned"):
                pinned = trials.pinned_from(request.pinned)
                done = await self._parts.pinned.deploy(
                    request.name, specs, prune=request.prune, pinned=pinned
                )
            else:
                done = await self._parts.stacks.deploy(request.name, specs, prune=request.prune)
            return pb.DeployStackResponse(
                services=[
                    pb.DeployedService(
                        service=messages.service(each.service),
                        action=pb.DeployAction.Value(f"DEPLOY_ACTION_{each.action.name}"),
                    )
                    for each in done.services
                ],
                revision=done.revision,
                left_over=done.left_over,
            )

    async def ListStacks(
        self, request: pb.ListStacksRequest, context: Context
    ) -> pb.ListStacksResponse:
        async with refusals(context):
            stacks = self._parts.stacks.all()
            return pb.ListStacksResponse(stacks=map(messages.stack_summary, stacks))

    async def RemoveStack(
        self, request: pb.RemoveStackRequest, context: Context
    ) -> pb.RemoveStackResponse:
        async with refusals(context):
            return pb.RemoveStackResponse(services=await self._parts.stacks.remove(request.stack))

    async def Plan(self, request: pb.PlanRequest, context: Context) -> pb.PlanResponse:
        async with refusals(context):
            forecast = await self._parts.forecasts.of(trials.request_of(request.requests))
            info = self._parts.clusters.record()
            return trials.plan(forecast, info.id)

    # --- following ---

    async def Watch(
        self, request: pb.WatchRequest, context: Context
    ) -> AsyncGenerator[pb.WatchMessage, None]:
        async with refusals(context):
            stream = self._parts.watching.watch(tuple(request.kinds), request.stack)
            async with aclosing(stream) as seen:
                async for each in seen:
                    yield messages.watch_message(each)

    async def StreamEvents(
        self, request: pb.StreamEventsRequest, context: Context
    ) -> AsyncGenerator[pb.StreamEventsMessage, None]:
        async with refusals(context):
            asked = Asked(
                since=request.since,
                service=request.service,
                node=request.node,
                task=request.task,
                stack=request.stack,
                request_id=request.request_id,
                kinds=tuple(request.kinds),
                tail=request.tail,
                follow=request.follow,
                after=request.after_revision,
            )
            async with aclosing(self._parts.events.stream(asked)) as told:
                async for each in told:
                    yield pb.StreamEventsMessage(
                        events=await encoded(each.events, messages.event), revision=each.revision
                    )

    async def GetTaskStory(
        self, request: pb.GetTaskStoryRequest, context: Context
    ) -> pb.GetTaskStoryResponse:
        async with refusals(context):
            story = await self._parts.events.story(request.task)
            return pb.GetTaskStoryResponse(
                task=messages.task_summary(story.summary) if story.summary else None,
                request_id=story.request_id,
                request=map(messages.event, story.request),
                predecessors=map(messages.event, story.predecessors),
                events=map(messages.event, story.events),
                explanation=story.explanation,
            )

    async def StreamLogs(
        self, request: pb.StreamLogsRequest, context: Context
    ) -> AsyncGenerator[pb.StreamLogsMessage, None]:
        async with refusals(context):
            stream = self._parts.logs.stream(
                request.service,
                tuple(request.tasks),
                messages.logs_asked_from(request.options),
                local=request.local,
            )
            async with aclosing(stream) as chunks:
                async for chunk in chunks:
                    yield messages.log_chunk(chunk)

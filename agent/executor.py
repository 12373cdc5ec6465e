"""Carry out what the reconciler decided: one step a task at a time, many tasks at once.

A step that fails is not repeated here. It only bars the task for a while; then the reconciler
decides anew, by what is so by then. No answer from the engine bars a task again and again, for
as long as it lasts; a failure of the engine's counts, and after a few the task is given up; a
refusal gives it up at once, with the reason.
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass

from agent.fence import Fence, lease_seconds
from agent.images import Images
from agent.observed import Observed
from agent.outbox import Outbox
from agent.reconciler import Action, Cancel, Prepare, Remove, Report, Start, Step, Stop
from agent.runtime.interface import (
    CannotRunError,
    Container,
    ContainerId,
    ImageMissingError,
    NetworkMissingError,
    NoContainerError,
    Owner,
    Runtime,
    RuntimeFailedError,
    RuntimeUnavailableError,
)
from cluster.clock import Clock
from cluster.model import NetworkMode, PullPolicy, TaskId, TaskSpec, TaskState, TaskStatus

log = logging.getLogger(__name__)

FAILURES_MAX = 4  # of a task's step in a row: with the waits between them about four seconds
WAIT_SECONDS_MIN = 0.5  # before the second attempt; doubles with each further one
WAIT_SECONDS_MAX = 15.0  # so a daemon that comes back unnoticed is noticed by then
DOUBLINGS_MAX = 10  # enough to reach the longest wait, and no overflow
STOPS_MAX = 100  # at once: each looks at its container about once a second


@dataclass(slots=True)
class _Bar:
    """Nothing is tried for a task until its timer goes off."""

    waits: int = 0
    failures: int = 0
    timer: asyncio.TimerHandle | None = None


class Executor:
    """Runs steps for one owner's tasks.

    Args:
        fence: keeps the leases of fenced tasks; without it none can run.
        wake: is called when there may be something to decide.
        lost_sight: is called when a step was given up, so that nobody knows how far it came.
        request_of: returns the id of the request that a task goes back to, for the log.
    """

    def __init__(
        self,
        runtime: Runtime,
        owner: Owner,
        observed: Observed,
        outbox: Outbox,
        *,
        clock: Clock,
        source: random.Random,
        wake: Callable[[], None],
        lost_sight: Callable[[], None],
        request_of: Callable[[TaskId], str],
        fence: Fence | None = None,
    ) -> None:
        self._runtime = runtime
        self._owner = owner
        self._observed = observed
        self._outbox = outbox
        self._images = Images(runtime)
        self._clock = clock
        self._source = source
        self._wake = wake
        self._lost_sight = lost_sight
        self._request_of = request_of
        self._fence = fence
        self._jobs: dict[TaskId, tuple[Step, asyncio.Task[None]]] = {}
        self._bars: dict[TaskId, _Bar] = {}
        self._done: dict[TaskId, Step] = {}  # the last step that went well
        self._stops = asyncio.Semaphore(STOPS_MAX)

    @property
    def busy(self) -> Mapping[TaskId, Step]:
        """What is under way."""
        return {task_id: step for task_id, (step, _) in self._jobs.items()}

    def apply(self, actions: Collection[Action]) -> None:
        """Begin the steps, except those of tasks that are barred for now."""
        for action in actions:
            match action:
                case Report(task_id, status):
                    self._report(task_id, status)
                case Cancel(task_id):
                    self._cancel(task_id)
                case _:
                    self._begin(action)

    def unbar(self) -> None:
        """Try at once what waits: the engine has come back."""
        for task_id in tuple(self._bars):
            self._unbar(task_id)
        self._wake()

    def forget_all_but(self, task_ids: Collection[TaskId]) -> None:
        """Drop what is remembered of tasks that are not ours any more and have no container."""
        for task_id in (self._bars.keys() | self._done.keys()) - set(task_ids):
            self._unbar(task_id)
            self._done.pop(task_id, None)

    async def aclose(self) -> None:
        """Give up what is under way; containers stay as they are."""
        jobs = [job for _, job in self._jobs.values()]
        for job in jobs:
            job.cancel()
        for task_id in tuple(self._bars):
            self._unbar(task_id)
        await asyncio.gather(*jobs, return_exceptions=True)

    # --- steps --------------------------------------------------------------------------------

    async def _prepare(self, step: Prepare) -> None:
        image = step.spec.container.image
        self._note(step.task_id, TaskState.PREPARING, message=f"getting {image} ready")
        await self._ensure_networks(step.spec)
        refused = None
        if step.spec.container.pull_policy is PullPolicy.ALWAYS:
            refused = await self._pull_if_possible(image)
        try:
            made = await self._create(step)
        except ImageMissingError as error:
            if refused is not None:
                raise refused from error
            if step.spec.container.pull_policy is not PullPolicy.MISSING:
                raise
            await self._images.pull(image)
            made = await self._create(step)
        self._note(step.task_id, TaskState.READY, container_id=made.id)

    async def _pull_if_possible(self, image: str) -> CannotRunError | None:
        """Freshen an image; return why it cannot be had, for the one on the host may do."""
        try:
            await self._images.pull(image)
        except CannotRunError as error:
            log.warning("makes do with the image at hand", extra={"error": str(error)})
            return error
        return None

    async def _create(self, step: Prepare) -> Container:
        made = await self._runtime.create(self._owner, step.assignment, step.spec)
        self._observed.note(self._observed.begin(), made)
        return made

    async def _start(self, step: Start) -> None:
        if seconds := lease_seconds(step.spec):
            if self._fence is None:
                raise CannotRunError("this agent cannot guard fenced tasks")
            await self._fence.hold(step.container_id, seconds)
        with contextlib.suppress(NoContainerError):  # the look shows it
            try:
                await self._runtime.start(step.container_id)
            except NetworkMissingError:
                await self._ensure_networks(step.spec)
                await self._runtime.start(step.container_id)
        await self._look(step.container_id)

    async def _stop(self, step: Stop) -> None:
        log.info(
            "stops a container",
            extra={
                "task": step.task_id,
                "container": step.container_id,
                "why": step.reason,
                **self._marks(step.task_id),
            },
        )
        async with self._stops:
            await self._runtime.stop(step.container_id)
        await self._look(step.container_id)

    async def _remove(self, step: Remove) -> None:
        await self._runtime.remove(step.container_id)
        self._observed.note_gone(self._observed.begin(), step.container_id)

    async def _ensure_networks(self, spec: TaskSpec) -> None:
        if spec.network_mode is NetworkMode.NETWORKS:
            for attachment in spec.networks:
                await self._runtime.ensure_network(self._owner, attachment.network)

    async def _look(self, container_id: ContainerId) -> None:
        ticket = self._observed.begin()
        seen = await self._runtime.inspect(container_id)
        if seen is None:
            self._observed.note_gone(ticket, container_id)
        else:
            self._observed.note(ticket, seen)

    # --- their frame --------------------------------------------------------------------------

    def _begin(self, step: Step) -> None:
        bar = self._bars.get(step.task_id)
        if step.task_id in self._jobs or (bar is not None and bar.timer is not None):
            return
        done = self._done.pop(step.task_id, None)
        if done == step:
            self._bar(step.task_id)  # it went well, yet is needed again: not in a tight loop
            return
        if done is not None:
            self._unbar(step.task_id)
        job = asyncio.create_task(self._run(step), name=f"{type(step).__name__} {step.task_id}")
        self._jobs[step.task_id] = (step, job)
        job.add_done_callback(lambda done: self._ended(step.task_id, done))

    def _ended(self, task_id: TaskId, job: asyncio.Task[None]) -> None:
        del self._jobs[task_id]
        if job.cancelled():
            self._lost_sight()
        elif (error := job.exception()) is not None:
            log.error("a step broke", exc_info=error, extra={"task": task_id})
            self._bar(task_id)
        self._wake()

    def _cancel(self, task_id: TaskId) -> None:
        if task_id in self._jobs:
            self._jobs[task_id][1].cancel()

    async def _run(self, step: Step) -> None:
        try:
            await self._do(step)
        except CannotRunError as error:
            self._give_up(step, str(error))
        except RuntimeFailedError as error:
            failures = self._bar(step.task_id, failed=True)
            log.warning("Docker fails", extra={"task": step.task_id, "error": str(error)})
            if failures >= FAILURES_MAX and await self._is_down(step):
                self._give_up(step, f"Docker failed {failures} times: {error}")
        except RuntimeUnavailableError as error:
            self._bar(step.task_id)
            log.debug("has to wait", extra={"task": step.task_id, "error": str(error)})
        else:
            self._done[step.task_id] = step

    async def _is_down(self, step: Step) -> bool:
        """Tell whether what was to start surely does not run: a call that failed may have done it."""
        if not isinstance(step, Start):
            return True
        try:
            await self._look(step.container_id)
        except (RuntimeFailedError, RuntimeUnavailableError):
            return False
        seen = self._observed.get(step.container_id)
        return seen is None or not seen.alive

    def _do(self, step: Step) -> Awaitable[None]:
        match step:
            case Prepare():
                return self._prepare(step)
            case Start():
                return self._start(step)
            case Stop():
                return self._stop(step)
            case Remove():
                return self._remove(step)

    def _bar(self, task_id: TaskId, *, failed: bool = False) -> int:
        """Let a task wait, longer each time; return how often the engine has failed at it."""
        bar = self._bars.setdefault(task_id, _Bar())
        longest = min(WAIT_SECONDS_MAX, WAIT_SECONDS_MIN * 2 ** min(bar.waits, DOUBLINGS_MAX))
        bar.waits += 1
        bar.failures += failed
        if bar.timer is not None:
            bar.timer.cancel()
        wait = longest * self._source.uniform(0.5, 1.0)
        bar.timer = asyncio.get_running_loop().call_later(wait, self._lift, bar)
        return bar.failures

    def _lift(self, bar: _Bar) -> None:
        bar.timer = None
        self._wake()

    def _unbar(self, task_id: TaskId) -> None:
        bar = self._bars.pop(task_id, None)
        if bar is not None and bar.timer is not None:
            bar.timer.cancel()

    def _give_up(self, step: Step, error: str) -> None:
        """Report that a task cannot be started; ending one is never given up."""
        if isinstance(step, Prepare | Start):
            self._unbar(step.task_id)
            self._note(step.task_id, TaskState.REJECTED, error=error)
        else:
            self._bar(step.task_id)
            log.warning("cannot end a container", extra={"task": step.task_id, "error": error})

    def _note(
        self,
        task_id: TaskId,
        state: TaskState,
        *,
        message: str = "",
        error: str = "",
        container_id: str = "",
    ) -> None:
        status = TaskStatus(
            state=state,
            at=self._clock.now(),
            message=message,
            error=error,
            container_id=container_id,
        )
        self._report(task_id, status)

    def _report(self, task_id: TaskId, status: TaskStatus) -> None:
        if self._outbox.report(task_id, status):
            log.info(
                "task is %s",
                status.state.value,
                extra={
                    "task": task_id,
                    **({"error": status.error} if status.error else {}),
                    **self._marks(task_id),
                },
            )

    def _marks(self, task_id: TaskId) -> dict[str, str]:
        """Return what leads from a line of the log back to the request."""
        request = self._request_of(task_id)
        return {"request": request} if request else {}

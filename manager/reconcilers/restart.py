"""Whether, and when, a task that ended by itself is replaced.

The first failure is replaced after the policy's own delay. A task that ends soon after its
start, time after time, is replaced later and later: the pause doubles, with jitter, up to a
ceiling. So one crash costs nearly nothing and a crash loop costs the cluster nearly nothing.
"""

from collections.abc import Callable, Sequence

from cluster.model import RestartCondition, RestartPolicy, Task, TaskState

# A task that lasted this long was well: what ends it is no part of a crash loop. Counted by the
# leader's clock from when it was let to start, so that neither an agent's clock nor its own delay
# has a say.
STABLE_SECONDS = 30.0
BACKOFF_SECONDS_FIRST = 1.0
BACKOFF_SECONDS_MAX = 60.0

Jitter = Callable[[], float]  # returns a number in [0, 1)


def may_restart(policy: RestartPolicy, ended: Task, history: Sequence[Task], now: float) -> bool:
    """Tell whether *ended*, the newest task of its slot, is to be replaced.

    Args:
        policy: of the version that *ended* is of, as it is now.
        ended: a task that finished though it was wanted.
        history: every task of the slot that is still kept, *ended* included.
        now: seconds since 1970 UTC.
    """
    if policy.condition is RestartCondition.NONE:
        return False
    if policy.condition is RestartCondition.ON_FAILURE and ended.status.state is TaskState.COMPLETE:
        return False
    if policy.max_attempts == 0:
        return True
    since = now - policy.window_seconds if policy.window_seconds else float("-inf")
    replacements = [
        task
        for task in history
        if task.spec_version == ended.spec_version
        and task.failures > 0
        and task.created_at >= since
    ]
    return len(replacements) < policy.max_attempts


def failures_after(ended: Task, now: float) -> int:
    """Return how many tasks in a row have now ended early, *ended* included; at least 1."""
    lasted_seconds = now - max(ended.created_at, ended.start_after)
    return 1 if lasted_seconds >= STABLE_SECONDS else ended.failures + 1


def delay_seconds(policy: RestartPolicy, failures: int, jitter: Jitter) -> float:
    """Return how long to wait before the replacement of the *failures*-th early end in a row."""
    if failures <= 1:
        return policy.delay_seconds
    backoff = min(BACKOFF_SECONDS_MAX, BACKOFF_SECONDS_FIRST * 2.0 ** min(failures - 2, 30))
    return policy.delay_seconds + backoff * (0.75 + 0.5 * jitter())

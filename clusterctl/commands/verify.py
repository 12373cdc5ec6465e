"""``clusterctl verify``: whether the cluster keeps its promises."""

from typing import TYPE_CHECKING

import click

from clusterctl.app import App, pass_app
from clusterctl.lazy import Leaf
from clusterctl.options import DURATION, format_option, show

if TYPE_CHECKING:
    from clusterctl.verification import Report

WATCHED = "5s"

# Beyond that time, for what was on its way when it was over. It comes within milliseconds, but
# for a manager that has just died.
SETTLE_SECONDS_MAX = 10.0

# Between two looks at the clock while nothing changes.
TICK_SECONDS = 0.2


@click.command(
    cls=Leaf,
    examples="""
    # the cluster as it is, and what happens within five seconds
    clusterctl verify
    clusterctl verify --for 10m --format json
    # only as it is
    clusterctl verify --for 0
    """,
)
@click.option(
    "--for",
    "seconds",
    type=DURATION,
    default=WATCHED,
    metavar="DURATION",
    help=f"Judge what happens within this time, too. [{WATCHED}]",
)
@format_option()
@pass_app
def command(app: App, *, seconds: float, form: str) -> int:
    """Judge whether the cluster keeps its promises, and explain what breaks one.

    The exit code is 1 if one is broken. What may be a breach, or allowed, is told and is none.
    """
    from clusterctl.render.findings import findings, row
    from clusterctl.render.output import TABLE, single

    report = _judged(app, seconds)
    show(findings(report) if form == TABLE else single(row(report), form))
    return 1 if report.breaches else 0


def _judged(app: App, seconds: float) -> "Report":
    """Follow the cluster for so long, and on until what is known is one state.

    Raises:
        UnavailableError: no manager told of one in time.
    """
    from cluster.errors import UnavailableError
    from clusterctl.follow import Follower, Lost
    from clusterctl.verification import KINDS, Verification

    verification = Verification()
    over = app.clock.monotonic() + seconds
    with Follower(app.client.caller, app.clock, app.chance, kinds=KINDS) as follower:
        while True:
            now = app.clock.monotonic()
            if verification.is_settled and now >= over:
                return verification.conclude()
            if now >= over + SETTLE_SECONDS_MAX:
                raise UnavailableError(
                    f"no manager showed a whole state within {SETTLE_SECONDS_MAX:g}s after that:"
                    " `clusterctl cluster info` tells how the managers and the store are"
                )
            for item in follower.take(min(TICK_SECONDS, max(0.0, over - now) or TICK_SECONDS)):
                if isinstance(item, Lost):
                    click.echo(f"lost the manager ({item.reason}); beginning anew", err=True)
                else:
                    verification.apply(item)

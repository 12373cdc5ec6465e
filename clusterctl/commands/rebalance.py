"""``clusterctl rebalance``: move tasks to where they are better off."""

import click

from clusterctl.app import App, pass_app
from clusterctl.lazy import Leaf
from clusterctl.options import format_option, show, wait_options

# Of a plan: there is something to do, as with other programs that show one before they act.
WOULD_MOVE = 2


@click.command(
    cls=Leaf,
    examples="""
    # what would be moved, and why; ends with 2 if anything would
    clusterctl rebalance --plan
    clusterctl rebalance --max-moves 3
    clusterctl rebalance --plan --format json
    # by itself, at night
    clusterctl cluster update --rebalance on --rebalance-hours 22:00-06:00
    """,
)
@click.option("--plan", is_flag=True, help="Only tell what would be moved; ends with 2 if any.")
@click.option("--max-moves", type=click.IntRange(min=1), help="At most so many, up to 100. [10]")
@format_option()
@wait_options
@pass_app
def command(
    app: App, *, plan: bool, max_moves: int | None, form: str, wait: bool, timeout_seconds: float
) -> int:
    """Move tasks to nodes where they are better off, as their services allow.

    A move costs a start, so it has to pay: replicas come apart, a wish is met, a node on which a
    task keeps failing is left, a node becomes empty. Ends with 1 if a move had to be given up.
    """
    from clusterctl.moves import Rebalanced
    from clusterctl.render.output import TABLE, single
    from clusterctl.render.plain import plain
    from clusterctl.render.rebalancing import moves
    from clusterctl.waiting import wait_for

    answer = app.client.rebalance(max_moves=max_moves or 0, plan=plan)
    if form == TABLE:
        show(moves(answer))
    else:
        told = {"moves": [plain(move) for move in answer.moves], "revision": answer.revision}
        show(single(told, form))
    if plan:
        return WOULD_MOVE if answer.moves else 0
    if wait and answer.cluster is not None:
        wait_for(
            app,
            Rebalanced(answer.cluster, answer.moves),
            timeout_seconds=timeout_seconds,
            what="rebalancing",
            look="clusterctl cluster info",
            subject="rebalance",
        )
    return 0

"""``clusterctl events``: what was decided and seen in the cluster, why, and on whose request."""

import json
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from clusterctl.app import App, pass_app
from clusterctl.lazy import Leaf
from clusterctl.options import DURATION, completing

if TYPE_CHECKING:
    from cluster.model import Event

TAIL_DEFAULT = 20


@click.command(
    cls=Leaf,
    examples="""
    # the latest, then what comes
    clusterctl events -f
    clusterctl events --since 10m --service demo_web
    # all that one request led to
    clusterctl events --request 4k2m8s0q4k2m8s0q4k2m8s0q4
    clusterctl events -f --kind node --format json
    clusterctl events --stack demo --format '{{.At}} {{.Name}} {{.Event}}: {{.Why}}'
    """,
)
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes.")
@click.option("--since", type=DURATION, help="Not older than, such as 10m.")
@click.option(
    "--service", default="", help="Only of this one.", shell_complete=completing("service")
)
@click.option("--node", default="", help="Only of this one.", shell_complete=completing("node"))
@click.option("--task", default="", help="Only of this one.", shell_complete=completing("task"))
@click.option("--stack", default="", help="Only of this one.", shell_complete=completing("stack"))
@click.option("--request", "request_id", default="", help="Only what goes back to this one.")
@click.option(
    "--kind",
    "kinds",
    multiple=True,
    metavar="KIND",
    help="Only of this kind: task, service, stack, job, rollout, scaling, node, ...; repeat it.",
)
@click.option(
    "-n",
    "--tail",
    type=click.IntRange(min=0),
    help=f"Begin with so many of the latest. [{TAIL_DEFAULT}; with --since or --request all]",
)
@click.option(
    "--format",
    "form",
    metavar="FORMAT",
    default="text",
    help="text, json or a template such as '{{.Name}}': one line each. [text]",
)
@pass_app
def command(
    app: App,
    *,
    follow: bool,
    since: float | None,
    service: str,
    node: str,
    task: str,
    stack: str,
    request_id: str,
    kinds: tuple[str, ...],
    tail: int | None,
    form: str,
) -> None:
    """Show what was decided and seen, why, and on whose request.

    The cluster keeps a day of it, or less if much happens.
    """
    from cluster.api.v1.control_pb2 import StreamEventsRequest
    from clusterctl.journal import Lost, events

    written = _writer(form)
    if tail is None:
        tail = -1 if since is not None or request_id else TAIL_DEFAULT
    request = StreamEventsRequest(
        since=app.clock.now() - since if since is not None else 0.0,
        service=service,
        node=node,
        task=task,
        stack=stack,
        request_id=request_id,
        kinds=kinds,
        tail=tail,
        follow=follow,
    )
    try:
        for each in events(app, request):
            if isinstance(each, Lost):
                reason = f"lost the manager ({each.reason}); looking for another"
                click.echo(reason, err=True)
            else:
                click.echo(written(each))
    except KeyboardInterrupt:
        return


def _writer(form: str) -> "Callable[[Event], str]":
    from clusterctl.render.people import moment
    from clusterctl.render.plain import plain
    from clusterctl.render.story import line
    from clusterctl.render.template import compile_template

    def row(event: "Event") -> dict[str, object]:
        return {**plain(event), "at": moment(event.at)}

    if form == "text":
        return line
    if form == "json":
        return lambda event: json.dumps(row(event), ensure_ascii=False)
    if "{{" not in form:
        raise click.BadParameter(
            f"'{form}' is no format: use text, json or a template such as '{{{{.Name}}}}'",
            param_hint="--format",
        )
    render = compile_template(form)
    return lambda event: render(row(event))

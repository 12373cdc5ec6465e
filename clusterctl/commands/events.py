"""``clusterctl events``: what changes in the cluster."""

import json
from typing import TYPE_CHECKING

import click

from clusterctl.app import App, pass_app
from clusterctl.lazy import Leaf
from clusterctl.options import completing

if TYPE_CHECKING:
    from clusterctl.happenings import Happening

FORMATS = ("text", "json")


@click.command(
    cls=Leaf,
    examples="""
    # what last became of everything, then what comes
    clusterctl events -f
    clusterctl events -f --kind node --format json
    clusterctl events --stack demo --tail 50
    """,
)
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes.")
@click.option(
    "--kind",
    "kinds",
    multiple=True,
    type=click.Choice(["node", "service", "task", "stack", "manager"]),
    help="Only of this kind; repeat it.",
)
@click.option("--stack", default="", help="Only of this one.", shell_complete=completing("stack"))
@click.option(
    "-n",
    "--tail",
    type=click.IntRange(min=0),
    default=20,
    help="Begin with so many of the latest. [20]",
)
@click.option("--format", "form", type=click.Choice(FORMATS), default="text", help="[text]")
@pass_app
def command(
    app: App, *, follow: bool, kinds: tuple[str, ...], stack: str, tail: int, form: str
) -> None:
    """Show what changes.

    The cluster keeps states, not a history: what lies behind is what each object came to last.
    """
    from clusterctl.follow import Follower, Lost
    from clusterctl.happenings import Watcher

    watcher = Watcher(kinds=kinds, stack=stack)
    try:
        with Follower(app.client.caller, app.clock, app.chance, stack=stack) as follower:
            begun = False
            while True:
                for item in follower.take(1.0):
                    if isinstance(item, Lost):
                        click.echo(
                            f"lost the manager ({item.reason}); looking for another", err=True
                        )
                        continue
                    happened = watcher.apply(item)
                    if not watcher.complete:
                        continue
                    for each in happened if begun else watcher.latest(tail):
                        click.echo(_told(each, each.at or app.clock.now(), form))
                    begun = True
                if begun and not follow:
                    return
    except KeyboardInterrupt:
        return


def _told(each: "Happening", at: float, form: str) -> str:
    from clusterctl.render.people import moment

    if form == "json":
        return json.dumps(
            {
                "at": moment(at),
                "kind": each.kind,
                "id": each.id,
                "name": each.name,
                "event": each.event,
                "message": each.message,
            },
            ensure_ascii=False,
        )
    message = f"  {each.message}" if each.message else ""
    return f"{moment(at)}  {each.kind:<8} {each.name}  {each.event}{message}"

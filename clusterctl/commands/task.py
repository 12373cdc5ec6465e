"""``clusterctl task``: single tasks, and why they wait."""

import click

from clusterctl.app import App, pass_app
from clusterctl.lazy import Family
from clusterctl.options import argument, completing, format_option, listing_options, show


@click.group(cls=Family)
def command() -> None:
    """Look at single tasks: the runs of a service's replicas."""


@command.command(
    "ls",
    examples="""
    clusterctl task ls
    clusterctl task ls --service demo_web --all
    clusterctl task ls --node node1 --format '{{.Name}} {{.State}}'
    """,
)
@click.option(
    "--service", default="", help="Only of this one.", shell_complete=completing("service")
)
@click.option("--node", default="", help="Only on this one.", shell_complete=completing("node"))
@click.option("--stack", default="", help="Only of this one.", shell_complete=completing("stack"))
@click.option(
    "-a",
    "--all",
    "ended",
    is_flag=True,
    help="With those that have ended, the past of each replica.",
)
@listing_options
@pass_app
def ls(
    app: App,
    *,
    service: str,
    node: str,
    stack: str,
    ended: bool,
    form: str,
    quiet: bool,
    no_trunc: bool,
) -> None:
    """List tasks."""
    from clusterctl.render import kinds
    from clusterctl.render.output import listing

    tasks = app.client.tasks(service=service, node=node, stack=stack, ended=ended)
    tasks = tasks if ended else kinds.present(tasks)
    kind = kinds.tasks(app.clock.now(), kinds.ids(whole=no_trunc))
    show(listing(kind, tasks, form, quiet=quiet))


@command.command(
    "inspect",
    examples="""
    clusterctl task inspect 4k2m8s0q
    clusterctl task inspect 4k2m8s0q --format '{{.Task.Task.Status.Error}}'
    """,
)
@argument("task", many=True)
@format_option()
@pass_app
def inspect(app: App, tasks: tuple[str, ...], form: str) -> None:
    """Show tasks in full, with the template that each runs."""
    from clusterctl.render.details import task
    from clusterctl.render.output import inspection

    now = app.clock.now()
    show(inspection([app.client.task(each) for each in tasks], form, lambda each: task(each, now)))


@command.command(
    "explain",
    examples="""
    # why is it pending, what would help, or why is it where it is?
    clusterctl task explain 4k2m8s0q
    clusterctl task explain 4k2m8s0q --format '{{join .Fixes "; "}}'
    """,
)
@argument("task")
@click.option("-a", "--all", "every", is_flag=True, help="Every node, also of a large cluster.")
@format_option()
@pass_app
def explain(app: App, task: str, every: bool, form: str) -> None:
    """Tell why a task is or is not there, node by node, and what would help."""
    from clusterctl.render.explanation import explanation
    from clusterctl.render.output import TABLE, single
    from clusterctl.render.plain import plain

    answer = app.client.explain(task)
    show(explanation(answer, every=every) if form == TABLE else single(plain(answer), form))


@command.command(
    "story",
    examples="""
    # from the request to the container, and what came before it in its place
    clusterctl task story demo_web.3
    # of one that is gone, too, by its id
    clusterctl task story 4k2m8s0q --format json
    """,
)
@argument("task")
@format_option()
@pass_app
def story(app: App, task: str, form: str) -> None:
    """Tell a task's whole history, as far back as events are kept."""
    from clusterctl.render.output import TABLE, single
    from clusterctl.render.plain import plain
    from clusterctl.render.story import told

    answer = app.client.story(task)
    show(told(answer, task) if form == TABLE else single(plain(answer), form))

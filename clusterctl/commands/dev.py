"""``clusterctl dev``: a whole cluster on this machine, to try things on."""

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

import click

from clusterctl.app import App, pass_app
from clusterctl.lazy import Family
from clusterctl.options import format_option, show

if TYPE_CHECKING:
    from clusterctl.dev.plan import Plan

CONTEXT = "dev"
PORT_MAX = 65535
AGENTS_MAX = 100

_folder = click.option(
    "--dir",
    "folder",
    type=click.Path(file_okay=False),
    help="Where it is kept. [/var/lib/shoal-dev, or ~/.local/share/shoal-dev]",
)


@click.group(cls=Family)
def command() -> None:
    """Run a whole cluster on this machine.

    One etcd, one manager and a few agents, as processes in the background; the agents share this
    machine's Docker and divide its CPUs and memory among them.
    """


@command.command(
    "up",
    examples="""
    clusterctl dev up
    clusterctl dev up --agents 5
    # a second one beside the first
    clusterctl dev up --dir /tmp/second --port 7520
    """,
)
@_folder
@click.option("--agents", type=click.IntRange(1, AGENTS_MAX), help="How many nodes. [3]")
@click.option("--port", type=click.IntRange(1, PORT_MAX), help="The manager's. [7420]")
@click.option(
    "--docker", "address", metavar="ADDRESS", help="[$DOCKER_HOST, or unix:///var/run/docker.sock]"
)
@pass_app
def up(
    app: App, folder: str | None, agents: int | None, port: int | None, address: str | None
) -> None:
    """Start what is missing of the cluster, and wait until all of it is ready."""
    from clusterctl.dev.up import choose, default_folder, locked, start

    where = _place(folder, default_folder())
    docker = address or app.environment.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
    with locked(where):
        wanted = choose(where, agents=agents, port=port, docker_address=docker)
        there = App(
            flags={"endpoints": (wanted.endpoint,)}, environment=app.environment, clock=app.clock
        )
        done = start(there, wanted, lambda line: click.echo(line, err=True))
    click.echo(f"the cluster runs: {done.endpoint}, {', '.join(done.nodes)}")
    _name(app, done)


@command.command(
    "status",
    examples="""
    clusterctl dev status
    """,
)
@_folder
@format_option()
def status(folder: str | None, form: str) -> None:
    """Show the cluster's processes; ends with 1 unless all of them run."""
    from clusterctl.dev import plan
    from clusterctl.dev.up import default_folder
    from clusterctl.render.output import Kind, listing

    where = _place(folder, default_folder())
    known = plan.load(where)
    if known is None:
        click.echo(f"no cluster in {where}: `clusterctl dev up` starts one", err=True)
        raise click.exceptions.Exit(1)
    found = [(daemon, daemon.running()) for daemon in known.daemons.values()]
    kind: Kind[int] = Kind(
        columns=(
            ("NAME", lambda index: found[index][0].name),
            ("STATE", lambda index: "running" if found[index][1] else "not running"),
            ("PID", lambda index: str(process.pid) if (process := found[index][1]) else ""),
            ("LOG", lambda index: str(found[index][0].log)),
        ),
        row=lambda index: {
            "name": found[index][0].name,
            "running": found[index][1] is not None,
            "pid": process.pid if (process := found[index][1]) else None,
            "log": str(found[index][0].log),
        },
        identity=lambda index: found[index][0].name,
    )
    show(listing(kind, range(len(found)), form))
    if not all(process for _, process in found):
        raise click.exceptions.Exit(1)


@command.command(
    "down",
    examples="""
    clusterctl dev down
    clusterctl dev down --keep-volumes
    """,
)
@_folder
@click.option("--keep-volumes", is_flag=True, help="Leave the volumes in Docker, with their data.")
@pass_app
def down(app: App, folder: str | None, keep_volumes: bool) -> None:
    """End the cluster and remove its containers, networks, volumes and files."""
    from clusterctl.dev import plan
    from clusterctl.dev.down import end
    from clusterctl.dev.up import default_folder, locked

    where = _place(folder, default_folder())
    if not where.exists():
        click.echo(f"no cluster in {where}")
        return
    with locked(where):
        known = plan.load(where)
        existed = end(where, lambda line: click.echo(line, err=True), volumes=not keep_volumes)
    if known is not None:
        _forget(app, known)
    click.echo(f"the cluster in {where} is gone" if existed else f"no cluster in {where}")


def _place(folder: str | None, default: Path) -> Path:
    return Path(folder).expanduser().resolve() if folder else default


def _name(app: App, known: "Plan") -> None:
    """Make clusterctl find the cluster without being told where, unless it looks elsewhere."""
    from dataclasses import replace

    from clusterctl import settings

    configuration = settings.load(app.environment)
    is_default = known.endpoint == settings.ENDPOINT_DEFAULT
    if is_default and not configuration.current:
        return
    if configuration.current == CONTEXT or not configuration.current:
        use = ""
    else:
        use = f"; to use it: clusterctl context use {CONTEXT}"
    contexts = {**configuration.contexts, CONTEXT: settings.Context((known.endpoint,))}
    settings.write(
        replace(
            configuration,
            path=settings.user_file(app.environment),
            contexts=contexts,
            current=configuration.current or CONTEXT,
        )
    )
    click.echo(f"context {CONTEXT}: {known.endpoint}{use}")


def _forget(app: App, known: "Plan") -> None:
    """Remove the context, if it is still that cluster's."""
    from dataclasses import replace

    from clusterctl import settings

    path = settings.user_file(app.environment)
    configuration = settings.read(path)
    ours = configuration.contexts.get(CONTEXT)
    if ours is None or ours.endpoints != (known.endpoint,):
        return
    contexts = {name: each for name, each in configuration.contexts.items() if name != CONTEXT}
    current = "" if configuration.current == CONTEXT else configuration.current
    if contexts:
        settings.write(replace(configuration, contexts=contexts, current=current))
    else:
        path.unlink()
        with contextlib.suppress(OSError):
            path.parent.rmdir()

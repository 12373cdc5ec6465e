"""``clusterctl context``: the clusters that the configuration file knows."""

import click

from clusterctl.app import App, pass_app
from clusterctl.lazy import Family
from clusterctl.options import listing_options, show


@click.group(cls=Family)
def command() -> None:
    """Choose among clusters.

    A context is a name for a cluster's managers and the TLS files to reach them with.
    """


@command.command("ls", examples="clusterctl context ls")
@listing_options
@pass_app
def ls(app: App, form: str, quiet: bool, no_trunc: bool) -> None:  # noqa: ARG001  no ids here
    """List the contexts; the current one is marked."""
    from clusterctl import settings
    from clusterctl.render.output import Kind, listing

    configuration = settings.load(app.environment)
    current = app.flags.get("context_name") or app.environment.get("SHOAL_CONTEXT")
    current = current or configuration.current
    kind: Kind[tuple[str, settings.Context]] = Kind(
        columns=(
            ("CURRENT", lambda item: "*" if item[0] == current else ""),
            ("NAME", lambda item: item[0]),
            ("ENDPOINTS", lambda item: ", ".join(item[1].endpoints)),
            ("TLS", lambda item: "yes" if item[1].tls else "no"),
        ),
        row=lambda item: {
            "name": item[0],
            "current": item[0] == current,
            "endpoints": list(item[1].endpoints),
            "tls": item[1].tls is not None,
        },
        identity=lambda item: item[0],
    )
    show(listing(kind, list(configuration.contexts.items()), form, quiet=quiet))


@command.command("use", examples="clusterctl context use prod")
@click.argument("name")
@pass_app
def use(app: App, name: str) -> None:
    """Make a context the current one."""
    from dataclasses import replace

    from clusterctl import settings

    configuration = _editable(app)
    configuration.context(name)
    settings.write(replace(configuration, current=name))
    click.echo(f"current context: {name}")


@command.command(
    "add",
    examples="""
    clusterctl --endpoint m1.example:7420,m2.example:7420 context add prod --use
    clusterctl context add prod --endpoint m1.example --tls-ca ca.pem --tls-cert me.pem --tls-key me.key
    """,
)
@click.argument("name")
@click.option("--use", "make_current", is_flag=True, help="Make it the current one.")
@pass_app
def add(app: App, name: str, make_current: bool) -> None:
    """Store the managers and TLS files that are given under a name; replaces an older one."""
    from dataclasses import replace
    from pathlib import Path

    from clusterctl import settings

    settings.check_context_name(name)
    if not app.flags.get("endpoints"):
        raise click.UsageError("name the managers: --endpoint HOST:PORT[,HOST:PORT]")
    target = settings.resolve({**app.flags, "context_name": ""}, {})
    tls = target.tls
    if tls is not None:
        paths = [str(Path(path).resolve()) for path in (tls.ca, tls.cert, tls.key)]
        tls = settings.TlsPaths(*paths)
    old = _editable(app)
    contexts = {**old.contexts, name: settings.Context(target.endpoints, tls)}
    current = name if make_current or not old.current else old.current
    settings.write(replace(old, contexts=contexts, current=current))
    click.echo(f"context {name}: {', '.join(target.endpoints)}")


@command.command("rm", examples="clusterctl context rm old")
@click.argument("name")
@pass_app
def rm(app: App, name: str) -> None:
    """Forget a context."""
    from dataclasses import replace

    from clusterctl import settings

    old = _editable(app)
    old.context(name)
    contexts = {key: value for key, value in old.contexts.items() if key != name}
    current = "" if old.current == name else old.current
    settings.write(replace(old, contexts=contexts, current=current))
    click.echo(f"forgot context {name}")


def _editable(app: App) -> "settings.Configuration":  # type: ignore[name-defined]  # noqa: F821
    """Return the user's own file; the machine's is not ours to change, but is begun with."""
    from dataclasses import replace

    from clusterctl import settings

    return replace(settings.load(app.environment), path=settings.user_file(app.environment))

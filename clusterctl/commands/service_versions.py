"""``clusterctl service history``, ``diff`` and ``rollback``: what a service was, and may be again."""

from typing import TYPE_CHECKING

import click

from clusterctl.app import App, pass_app
from clusterctl.dryrun import dry_run_option, shown_instead
from clusterctl.lazy import Leaf
from clusterctl.options import (
    argument,
    format_option,
    listing_options,
    show,
    show_values_option,
    wait_options,
)

if TYPE_CHECKING:
    from cluster.model import ServiceVersion
    from clusterctl.answers import RolledBack, Versions


@click.command(
    cls=Leaf,
    examples="""
    clusterctl service history demo_web
    clusterctl service history demo_web --format '{{.Version}} {{.Image}} {{.Status}}'
    """,
)
@argument("service")
@listing_options
@pass_app
def history(app: App, service: str, form: str, quiet: bool, no_trunc: bool) -> None:  # noqa: ARG001
    """List the versions of a service, the newest first: what changed, and how it went."""
    from clusterctl.render import versions
    from clusterctl.render.output import listing

    known = app.client.versions(service)
    rows = versions.rows(known)
    show(listing(versions.kind(app.clock.now()), rows, form, quiet=quiet))


@click.command(
    cls=Leaf,
    examples="""
    # the present version against the one before
    clusterctl service diff demo_web
    clusterctl service diff demo_web 3 7
    clusterctl service diff demo_web 3 --format json
    """,
)
@show_values_option
@argument("service")
@click.argument("old", metavar="[V1]", type=click.IntRange(min=1), required=False)
@click.argument("new", metavar="[V2]", type=click.IntRange(min=1), required=False)
@format_option()
@pass_app
def diff(
    app: App, *, service: str, old: int | None, new: int | None, show_values: bool, form: str
) -> None:
    """Show what differs between two versions of a service."""
    from cluster.differences import differences
    from clusterctl.render.difference import row, told
    from clusterctl.render.output import TABLE, structured

    known = app.client.versions(service)
    name = known.service.service.spec.name
    after = _version(known, new or known.service.service.spec_version)
    before = _version(known, old or _before(known, after.number))
    found = list(differences(before.spec, after.spec, values=show_values))
    if form != TABLE:
        show(structured(list(map(row, found)), form))
        return
    click.echo(f"{name}: version {before.number} -> version {after.number}", err=True)
    if not found:
        click.echo("no difference", err=True)
    click.echo(told(found), nl=False, color=app.colors)


def _version(known: "Versions", number: int) -> "ServiceVersion":
    from cluster.errors import NotFoundError

    for each in known.versions:
        if each.number == number:
            return each
    name = known.service.service.spec.name
    raise NotFoundError(
        f"version {number} of service '{name}' is not kept, or never was;"
        f" `clusterctl service history {name}` lists those that are"
    )


def _before(known: "Versions", number: int) -> int:
    from cluster.errors import NotFoundError

    earlier = [each.number for each in known.versions if each.number < number]
    if not earlier:
        name = known.service.service.spec.name
        raise NotFoundError(f"service '{name}' has no version before {number} to compare with")
    return max(earlier)


@click.command(
    cls=Leaf,
    examples="""
    # the last version that ran well
    clusterctl service rollback demo_web
    clusterctl service rollback --to 3 demo_web
    clusterctl service rollback --dry-run demo_web
    """,
)
@argument("service")
@click.option("--to", type=click.IntRange(min=1), metavar="V", help="This version. [the last good]")
@dry_run_option
@wait_options
@pass_app
def rollback(
    app: App, *, service: str, to: int | None, dry_run: bool, wait: bool, timeout_seconds: float
) -> None:
    """Give a service an earlier version's spec again; it keeps its number of replicas."""
    from clusterctl import trials

    wishes = {service: to or 0}
    if dry_run:
        shown_instead(app, trials.rollback_services(wishes))
    done = app.client.rollback_services(wishes)
    told_and_awaited(
        app,
        done,
        wait=wait,
        timeout_seconds=timeout_seconds,
        subject=f"service {done[0].service.spec.name}",
        look=f"clusterctl service ps {done[0].service.spec.name}",
    )


def told_and_awaited(
    app: App,
    done: "list[RolledBack]",
    *,
    wait: bool,
    timeout_seconds: float,
    subject: str,
    look: str,
) -> None:
    """Tell what goes back to which version, and wait until it has."""
    from clusterctl.convergence import Deployed
    from clusterctl.waiting import wait_for

    for each in done:
        name = each.service.spec.name
        what = f"back to version {each.to}, as version {each.service.spec_version}"
        click.echo(f"{name}: {what if each.to else 'was not changed by the last deploy'}")
    if wait:
        unchanged = frozenset(each.service.id for each in done if not each.to)
        wait_for(
            app,
            Deployed([each.service for each in done], unchanged),
            timeout_seconds=timeout_seconds,
            what="the rollback",
            look=look,
            subject=subject,
        )

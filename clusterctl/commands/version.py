"""``clusterctl version``: of the client and of the managers."""

import click

from cluster import __version__
from clusterctl.app import App, pass_app
from clusterctl.lazy import Leaf
from clusterctl.options import format_option, show


@click.command(
    cls=Leaf,
    examples="""
    clusterctl version
    clusterctl version --client --format '{{.Client}}'
    """,
)
@click.option("--client", "client_only", is_flag=True, help="Ask no manager.")
@format_option()
@pass_app
def command(app: App, client_only: bool, form: str) -> None:
    """Show the versions of the client and, if one answers, of the managers."""
    from cluster.errors import UnavailableError
    from clusterctl.render.output import TABLE, single
    from clusterctl.render.table import facts

    managers: dict[str, str] = {}
    trouble = ""
    if not client_only:
        try:
            info = app.client.cluster_info()
            managers = {each.address: each.software_version for each in info.managers}
        except UnavailableError as error:
            trouble = str(error)
    if form == TABLE:
        rows = [("Client", __version__)]
        rows += [(f"Manager {address}", found) for address, found in managers.items()]
        click.echo(facts(rows))
    else:
        show(single({"client": __version__, "managers": managers}, form))
    if trouble:
        click.echo(f"warning: {trouble}", err=True)

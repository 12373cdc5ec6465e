"""``clusterctl completion``: scripts that make a shell complete commands, options and names."""

import click

from clusterctl.lazy import Leaf

SHELLS = ("bash", "zsh", "fish")
VARIABLE = "_CLUSTERCTL_COMPLETE"


@click.command(
    cls=Leaf,
    examples="""
    # now, in this shell
    eval "$(clusterctl completion bash)"
    # from now on
    clusterctl completion bash > /etc/bash_completion.d/clusterctl
    clusterctl completion zsh > ~/.zfunc/_clusterctl
    clusterctl completion fish > ~/.config/fish/completions/clusterctl.fish
    """,
)
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def command(context: click.Context, shell: str) -> None:
    """Print a script for shell completion, of names of services and nodes too."""
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(context.find_root().command, {}, "clusterctl", VARIABLE).source())

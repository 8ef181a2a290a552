"""Commands that change the server's credentials."""

from __future__ import annotations

import click

from tagcache.cli.api import REFUSED, Failed, IServer, pass_server
from tagcache.cli.output import json_option, print_json


@click.command("change-password")
@click.argument("new", required=False)
@json_option
@pass_server
def change_password(server: IServer, new: str | None, as_json: bool) -> None:
    """Set a new password, read from the terminal; all tokens become invalid.

    NEW can be given as an argument, but then everyone on this machine can see it.
    """
    if new is None:
        new = click.prompt("New password", hide_input=True, confirmation_prompt=True, err=True)
    else:
        click.echo(
            "warning: a password in the arguments is visible in the process list and in the "
            "shell's history; without the argument, it is read from the terminal",
            err=True,
        )
    answer = server.call("POST", "/auth/change_password", {"new_password": new})
    if as_json:
        print_json(answer)
    if not answer["success"]:
        raise Failed(answer["error"], REFUSED)
    if not as_json:
        click.echo("The password is changed, and stored as a hash.", err=True)


@click.command("reset-credentials")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@pass_server
def reset_credentials(server: IServer, yes: bool, as_json: bool) -> None:
    """Restore the default username and password; only on the server's own machine."""
    if not yes:
        click.confirm("Restore the default credentials?", abort=True, err=True)
    answer = server.call("POST", "/auth/reset")
    if as_json:
        print_json(answer)
    else:
        click.echo("The default credentials are restored.", err=True)

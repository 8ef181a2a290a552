"""Commands that change the server's credentials."""

from __future__ import annotations

import click

from tagcache.cli.api import Api, Failed
from tagcache.cli.output import json_option, print_json


@click.command("change-password")
@json_option
@click.pass_obj
def change_password(api: Api, as_json: bool) -> None:
    """Set a new password, asked for on the terminal; all tokens become void."""
    new = click.prompt("New password", hide_input=True, confirmation_prompt=True, err=True)
    answer = api.call("POST", "/auth/change_password", {"new_password": new})
    if as_json:
        print_json(answer)
    if not answer["success"]:
        raise Failed(answer["error"])
    if not as_json:
        click.echo("The password is changed, and kept as a hash.", err=True)


@click.command("reset-credentials")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@click.pass_obj
def reset_credentials(api: Api, yes: bool, as_json: bool) -> None:
    """Go back to the default user name and password; only on the server's own machine."""
    if not yes:
        click.confirm("Go back to the default credentials?", abort=True, err=True)
    answer = api.call("POST", "/auth/reset")
    if as_json:
        print_json(answer)
    else:
        click.echo("The credentials are the default ones again.", err=True)

"""``onibus access roles | grant | revoke | list``: who may do what on a cluster with an authorizer."""

from __future__ import annotations

import json
import secrets
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from onibus.infra.cli.options import AsJson, with_settings
from onibus.infra.errors import OnibusError
from onibus.infra.files import reason_of
from onibus.infra.process.terminal import console, echo
from onibus.infra.settings import Settings

_User = Annotated[str, typer.Option(help="User name, without the prefix User: of Kafka's ACLs.")]


def register(app: typer.Typer) -> None:
    """Add the command group to ``app``."""
    group = typer.Typer(
        help="Grant each component the rights it needs, on a cluster with an authorizer.",
        no_args_is_help=True,
    )
    group.command()(with_settings(roles))
    group.command()(with_settings(grant))
    group.command()(with_settings(revoke))
    group.command("list")(with_settings(list_users))
    app.add_typer(group, name="access")


def roles(settings: Settings, as_json: AsJson = False) -> None:
    """Show the roles and what each may do under the topic prefix. Needs no cluster."""
    from rich.table import Table

    from onibus.infra.kafka.roles import ROLES, rights_of

    if as_json:
        shown = {
            name: {"purpose": role.purpose, "rights": [asdict(right) for right in rights_of(role, settings)]}
            for name, role in ROLES.items()
        }
        echo(json.dumps(shown, indent=2))
        return
    view = Table("role")
    for title in ("for", "reads", "writes", "also"):
        view.add_column(title, overflow="fold")
    for name, role in ROLES.items():
        flags = {"joins groups": role.joins, "transactions": role.transacts, "creates topics": role.creates}
        also = ", ".join(flag for flag, there in flags.items() if there)
        view.add_row(name, role.purpose, _topics(role.reads), _topics(role.writes), also)
    console().print(view)
    echo(f"Every role may describe the topics and groups under {settings.topic_prefix!r}.")


def grant(
    settings: Settings,
    role: Annotated[str, typer.Argument(help="A role; see onibus access roles.")],
    user: _User,
    password_file: Annotated[
        Path | None,
        typer.Option(
            help="Also create the user (SCRAM-SHA-512) with the password in this file; if there is no file, "
            "a new password is written to it."
        ),
    ] = None,
) -> None:
    """Grant a role to a user; with --password-file, create the user first. Can be repeated."""
    from onibus.infra.kafka.acl_admin import add_user
    from onibus.infra.kafka.acl_admin import grant as grant_role
    from onibus.infra.kafka.roles import role_of

    chosen = role_of(role)
    if password_file is not None:
        add_user(settings, user, _password_in(password_file))
        echo(f"user {user} logs in with SCRAM-SHA-512 and the password in {password_file}")
    rights = grant_role(settings, user, chosen)
    echo(f"{user} is now {role}: {len(rights)} rights under {settings.topic_prefix!r}")


def revoke(settings: Settings, user: _User) -> None:
    """Revoke all rights of a user under the topic prefix. The user is kept."""
    from onibus.infra.kafka.acl_admin import revoke as revoke_all

    echo(f"{revoke_all(settings, user)} rights of {user} revoked")


def list_users(settings: Settings, as_json: AsJson = False) -> None:
    """List users with their roles under the topic prefix, and rights that belong to no role."""
    from onibus.infra.kafka.acl_admin import granted, roles_held
    from onibus.infra.kafka.roles import ROLES, rights_of

    roles, others = {}, {}
    for user, rights in granted(settings).items():
        roles[user] = roles_held(rights, settings)
        covered = {right for name in roles[user] for right in rights_of(ROLES[name], settings)}
        others[user] = [right for right in rights if right not in covered]
    if as_json:
        shown = {u: {"roles": roles[u], "others": [asdict(right) for right in others[u]]} for u in roles}
        echo(json.dumps(shown, indent=2))
        return
    if not roles:
        echo(f"no one but super users has rights under {settings.topic_prefix!r}")
    for user, held in roles.items():
        further = f", and {len(others[user])} other rights (see --json)" if others[user] else ""
        echo(f"{user}: {', '.join(held) or 'no complete role'}{further}")


def _password_in(file: Path) -> str:
    """The password in the file, which is created if there is none.

    Raises:
        OnibusError: the file cannot be read or written, or is empty.
    """
    from onibus.infra.broker.credentials import write_private

    try:
        if not file.exists():
            write_private(file, secrets.token_urlsafe(24))
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise OnibusError(
            f"the password file {file}: {reason_of(error)}; choose one that you may write"
        ) from error
    if not lines or not lines[0]:
        raise OnibusError(f"the password file {file} is empty; write the password on its first line")
    return lines[0]


def _topics(names: tuple[str, ...]) -> str:
    return ", ".join(name.replace("_", "-") for name in names) or "–"

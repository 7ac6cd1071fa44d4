"""`ocm-gateway` and the commands that need no running gateway: serve, check-config, init."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from gateway import __version__
from gateway.cli import (
    contacts,
    directory,
    doctor,
    inviting,
    operating,
    peer_sim,
    receiving,
    requesting,
    sharing,
    user_keys,
)
from gateway.cli.client import FAILED, fail
from gateway.cli.values import placeholder
from gateway.config import Config, ConfigError, load

DEFAULT_CONFIG = Path("/etc/ocm-gateway/config.yaml")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--config",
    type=click.Path(dir_okay=False, path_type=Path),
    default=DEFAULT_CONFIG,
    envvar="OCM_GATEWAY_CONFIG",
    show_default=True,
    show_envvar=True,
    help="The configuration file.",
)
@click.version_option(__version__, prog_name="ocm-gateway")
@click.pass_context
def main(context: click.Context, config: Path) -> None:
    """Make storage that already exists an Open Cloud Mesh provider."""
    context.obj = config


@main.command()
@click.pass_obj
def serve(path: Path) -> None:
    """Run the gateway until it is told to stop."""
    # Here, because the other commands start faster without the whole gateway.
    from gateway import logs, serving

    config = _load(path, absent_roots=True)
    logs.configure(config.log.format, config.log.level)
    try:
        sys.exit(serving.serve(config))
    except ConfigError as error:
        fail(f"{path}:\n{error}")
    except serving.AlreadyRunning as error:
        fail(f"{error}. Stop it first, or give this one a `state_dir` of its own.")
    except OSError as error:
        fail(f"cannot start: {error}")


@main.command("check-config")
@click.pass_obj
def check_config(path: Path) -> None:
    """Report every mistake in the configuration; exit status 1 if there is one."""
    from gateway import app

    config = _load(path)
    try:
        app.check(config)
    except ConfigError as error:
        fail(f"{path}:\n{error}")
    print(f"{path}: no mistakes. This is {config.server}, with {len(config.mounts)} mount(s).")


@main.command()
@click.option(
    "--public-url", prompt="Public URL of this gateway", help="As peers and users reach it, through any proxy."
)
@click.option(
    "--root",
    type=click.Path(exists=True, file_okay=False, resolve_path=True, path_type=Path),
    prompt="Directory to make available",
    help="The storage that exists already; nothing in it is changed.",
)
@click.option(
    "--rights",
    type=click.Choice(["read", "write"]),
    default="read",
    show_default=True,
    help="What users may do in it.",
)
@click.option(
    "--state-dir",
    type=click.Path(file_okay=False, resolve_path=True, path_type=Path),
    default=Path("/var/lib/ocm-gateway"),
    show_default=True,
    help="Where the gateway keeps its own data.",
)
@click.pass_obj
def init(path: Path, public_url: str, root: Path, rights: str, state_dir: Path) -> None:
    """Write a first configuration file; one that exists is never touched."""
    from gateway.cli.first_config import first_config

    text = first_config(public_url, root, rights, state_dir)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        fail(f"{path} exists already and was left as it is; name another file with `--config`")
    except OSError as error:
        fail(f"cannot write {path}: {error.strerror}")
    try:
        load(path)
    except ConfigError as error:
        path.unlink()
        fail(f"these answers make no configuration, so none was written:\n{error}")
    print(f"{path} is written. Next: `ocm-gateway --config {path} serve`, then `user add NAME` and `share create`.")


def _load(path: Path, *, absent_roots: bool = False) -> Config:
    try:
        return load(path, absent_roots=absent_roots)
    except ConfigError as error:
        print(f"{path}:\n{error}", file=sys.stderr)
        sys.exit(FAILED)


for command in (
    operating.user,
    sharing.share,
    receiving.received,
    requesting.request,
    operating.peer,
    directory.directory,
    peer_sim.peer_sim,
    operating.outbox,
    operating.backend,
    operating.keys,
    operating.status,
    doctor.doctor,
    inviting.invite,
    contacts.contact,
    placeholder("transfer", "`transfer`"),
):
    main.add_command(command)

operating.peer.add_command(doctor.trace)
operating.user.add_command(user_keys.key)

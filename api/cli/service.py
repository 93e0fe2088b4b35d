"""The command that serves."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from api.cli.database import database_options
from api.cli.jobs import BLOBS
from api.cli.limits import server_limits
from api.cli.options import GIB, KEEP_DAYS, LOG_FORMAT, LOG_LEVEL, MOST_STORE, PLAN_MEMORY

if TYPE_CHECKING:
    from api.telemetry.logs import Format, Level


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8000, show_default=True, help="0 takes any free port.")
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    envvar="LAYOUT_PLANNER_DATA_DIR",
    show_envvar=True,
    help="Keep plans here [default: the user's directory for data, as a rule "
    "~/.local/share/layout-planner].",
)
@database_options(
    "Keep the plans' figures in this PostgreSQL database, postgresql://user@host/name "
    "[default: SQLite in the data directory]."
)
@BLOBS
@click.option(
    "--workers",
    type=click.IntRange(min=0),
    default=1,
    show_default=True,
    help="Programs planned at a time, and as many of jobs; 0 leaves jobs to other workers.",
)
@PLAN_MEMORY
@click.option(
    "--queue",
    "most_pending",
    type=click.IntRange(min=1),
    default=64,
    show_default=True,
    help="Plans that are made, or wait to be, at a time: more are refused with 503.",
)
@server_limits
@click.option(
    "--uploads-gib",
    "most_upload_bytes",
    type=GIB,
    metavar="GIB",
    default="16",
    show_default=True,
    envvar="LAYOUT_PLANNER_UPLOADS_GIB",
    show_envvar=True,
    help="What all uploads that are on their way, or are planned, may take: more are refused "
    "with 503.",
)
@KEEP_DAYS
@MOST_STORE
@click.option(
    "--allowed-host",
    "allowed_hosts",
    multiple=True,
    metavar="NAME",
    envvar="LAYOUT_PLANNER_ALLOWED_HOSTS",
    show_envvar=True,
    help="Answer requests for this name with a dot as well. May be repeated.",
)
@click.option(
    "--access",
    type=click.Choice(["auto", "off", "tokens"]),
    default="auto",
    show_default=True,
    envvar="LAYOUT_PLANNER_ACCESS",
    show_envvar=True,
    help="off: whoever reaches the port is let in. tokens: who has one ('layout-planner token'). "
    "auto: off on a loopback address, else tokens.",
)
@click.option(
    "--identity-header",
    metavar="NAME",
    help="Let in whom a reverse proxy names in this header; only the proxy may reach the port.",
)
@click.option(
    "--without-jail",
    is_flag=True,
    help="Take .pt2 files from other machines even where there is no jail for torch.",
)
@LOG_LEVEL
@LOG_FORMAT
def serve(
    host: str,
    port: int,
    data_dir: Path | None,
    database_url: str | None,
    blobs_url: str | None,
    workers: int,
    plan_memory_bytes: int | None,
    most_pending: int,
    keep_days: float | None,
    most_store_bytes: int | None,
    allowed_hosts: tuple[str, ...],
    access: Literal["auto", "off", "tokens"],
    identity_header: str | None,
    without_jail: bool,
    most_upload_bytes: int,
    log_level: Level,
    log_format: Format,
    **limits: int,
) -> None:
    """Start the HTTP service: POST /plan takes a program and returns it planned.

    The program is a .pt2 saved by torch.export.save, a lowered .pte, or a VkGraph.
    """
    from platformdirs import user_data_path

    from api.http.access import AccessRules
    from api.http.app import Settings
    from api.http.callers import CallerLimits
    from api.http.server import serve as run
    from api.store.room import RESERVE_BYTES
    from api.telemetry.logs import LogSettings

    data_dir = data_dir or user_data_path("layout-planner", appauthor=False)
    mode = access
    if mode == "auto":
        mode = "off" if _is_loopback(host) and identity_header is None else "tokens"
    settings = Settings(
        data_dir,
        database_url,
        max(workers, 1),
        job_workers=workers,
        plan_memory_bytes=plan_memory_bytes,
        warms=True,
        most_pending=most_pending,
        takes_unjailed=without_jail,
        allowed_hosts=frozenset(allowed_hosts),
        access=AccessRules(mode, identity_header),
        blobs_url=blobs_url or None,
        limits=CallerLimits(**limits),
        most_upload_bytes=most_upload_bytes,
        logs=LogSettings(log_level, log_format),
        reserve_bytes=RESERVE_BYTES,
        keep_days=keep_days,
        most_store_bytes=most_store_bytes,
    )
    run(host, port, settings)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"

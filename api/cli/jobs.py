"""Commands for jobs, and for the workers that do them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from api.cli.database import database_options
from api.cli.options import AS_JSON, FOLDER, LOG_FORMAT, LOG_LEVEL, PATH, PLAN_MEMORY

if TYPE_CHECKING:
    from api.client.client import Client
    from api.telemetry.logs import Format, Level

SERVER = click.option(
    "--server",
    default="http://127.0.0.1:8000",
    envvar="LAYOUT_PLANNER_SERVER",
    show_default=True,
    show_envvar=True,
    help="The server that has the jobs.",
)
DATA_DIR = click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    envvar="LAYOUT_PLANNER_DATA_DIR",
    show_envvar=True,
    help="The server's directory for data, which every worker must reach [default: the user's].",
)
DATABASE = database_options("The server's database [default: SQLite in the data directory].")
BLOBS = click.option(
    "--blobs",
    "blobs_url",
    metavar="URL",
    envvar="LAYOUT_PLANNER_BLOBS",
    show_envvar=True,
    help="Keep files in this S3-compatible store, s3://bucket/folder [default: in the data "
    "directory]. Its address and credentials are AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID and so on.",
)


@click.group("jobs")
def jobs_group() -> None:
    """Plan many programs with many options, on a server and its workers.

    The commands exit with 2 if something that they were given is wrong, and with 69 if the server
    does not answer.
    """


@jobs_group.command("submit")
@click.argument("source", metavar="DIR|MANIFEST.toml", type=click.Path(path_type=Path))
@SERVER
@click.option("--profile", "profiles", multiple=True, metavar="NAME|FILE", help="May be repeated.")
@click.option(
    "--device",
    "devices",
    multiple=True,
    metavar="NAME",
    help="Also plan for this device of the server, by its times. May be repeated.",
)
@click.option("--objective", "objectives", multiple=True, metavar="repack|latency")
@click.option("--texture-limits", multiple=True, metavar="X,Y,Z", help="May be repeated.")
@click.option("--buffer-limit", "buffer_limits", multiple=True, type=int, metavar="N")
@click.option(
    "--without-layouts",
    multiple=True,
    metavar="NAME,...",
    help="Also plan without these layouts. May be repeated; '' excludes none.",
)
@click.option("--runtime", "runtimes", multiple=True, metavar="R", help="May be repeated.")
@click.option(
    "--target", "targets", multiple=True, metavar="vulkan|webgpu", help="May be repeated."
)
@click.option(
    "--compile-options",
    multiple=True,
    metavar="NAME,...",
    help="Also lower with these options of VulkanPartitioner. May be repeated; '' is none.",
)
@click.option(
    "--limits",
    multiple=True,
    metavar="LIMIT,...",
    help="Also plan within these limits, each an option of 'plan' with its value: 'forbid buffer, "
    "pin output=texture'. May be repeated; '' is none.",
)
@click.option("--watch", is_flag=True, help="Show the progress until the end.")
def submit(
    source: Path,
    server: str,
    profiles: tuple[str, ...],
    devices: tuple[str, ...],
    objectives: tuple[str, ...],
    texture_limits: tuple[str, ...],
    buffer_limits: tuple[int, ...],
    without_layouts: tuple[str, ...],
    runtimes: tuple[str, ...],
    targets: tuple[str, ...],
    compile_options: tuple[str, ...],
    limits: tuple[str, ...],
    watch: bool,
) -> None:
    """Submit a job: all programs of a folder, or those of a manifest, with every combination.

    Prints the id of the job.
    """
    from api.client.client import Client
    from api.client.manifest import read_submission

    given: dict[str, tuple[Any, ...]] = {
        "profiles": profiles,
        "devices": devices,
        "objectives": objectives,
        "texture_limits": texture_limits,
        "buffer_limits": buffer_limits,
        "without_layouts": tuple(map(_names, without_layouts)),
        "compile_options": tuple(map(_names, compile_options)),
        "runtimes": runtimes,
        "targets": targets,
        "limits": tuple(map(_names, limits)),
    }
    options = {key: list(values) for key, values in given.items() if values}
    client = Client(server)
    job_id = client.submit(read_submission(source, options))
    click.echo(job_id)
    if watch:
        _watch(client, job_id)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


@jobs_group.command("list")
@SERVER
@AS_JSON
def list_jobs(server: str, as_json: bool) -> None:
    """Print the newest jobs and their progress."""
    from api.client.client import Client

    jobs = Client(server).jobs()
    if as_json:
        click.echo(json.dumps(jobs, indent=2))
        return
    from api.terminal.console import stdout
    from api.terminal.jobs import jobs_table

    stdout().print(jobs_table(jobs))


@jobs_group.command("watch")
@click.argument("job_id", metavar="JOB")
@SERVER
def watch(job_id: str, server: str) -> None:
    """Show the progress of a job until its end. Exit with 1 if a task failed."""
    from api.client.client import Client

    _watch(Client(server), job_id)


@jobs_group.command("results")
@click.argument("job_id", metavar="JOB")
@SERVER
@click.option(
    "-o",
    "--output",
    type=PATH,
    help="Write them here, as CSV if the name ends in .csv, else as JSON.",
)
@AS_JSON
def results(job_id: str, server: str, output: Path | None, as_json: bool) -> None:
    """Print the results of a job."""
    from api.client.client import Client
    from api.files import check_writable
    from planner.files.whole import write_whole

    check_writable(output)
    client = Client(server)
    if output is not None:
        write_whole(output, client.file(job_id, "csv" if output.suffix == ".csv" else "json"))
        return
    items = client.results(job_id)
    if as_json:
        click.echo(json.dumps(items, indent=2))
        return
    from api.terminal.console import stdout
    from api.terminal.jobs import gains_table, results_table

    console = stdout()
    console.print(results_table(items))
    if len({item["options"].get("device") for item in items}) > 1:
        console.print(gains_table(items))


@jobs_group.command("programs")
@click.argument("job_id", metavar="JOB")
@SERVER
@click.option("-o", "--output", type=FOLDER, required=True, help="The folder to make.")
def programs(job_id: str, server: str, output: Path) -> None:
    """Write the programs of a job to a folder: for each input one with each of its options.

    A file is called after the input and the device, with a number where there are several.
    """
    from api.client.client import Client
    from api.client.programs import program_files
    from api.files import check_new_folder, write_folder

    check_new_folder(output)
    files = program_files(Client(server), job_id)
    write_folder(output, files)
    click.echo(f"{len(files)} programs are in {output}")


@jobs_group.command("diff")
@click.argument("before", metavar="JOB1")
@click.argument("after", metavar="JOB2")
@SERVER
@click.option(
    "--fail-on-regression",
    "percent",
    type=click.FloatRange(min=0),
    metavar="PERCENT",
    help="Exit with 1 if a plan costs more than before by more than so much, or is gone.",
)
@AS_JSON
def diff(before: str, after: str, server: str, percent: float | None, as_json: bool) -> None:
    """Print what each model's plan costs in two jobs, by the objective that it minimises.

    Profiles are the same if their content is, whatever they are called.
    """
    from dataclasses import asdict

    from api.client.client import Client
    from api.client.difference import compare_jobs
    from planner.errors import OptionError

    client = Client(server)
    comparison = compare_jobs(client.results(before), client.results(after))
    if percent is not None and not comparison.changes:
        raise OptionError(
            "the two jobs have nothing in common: submit the same inputs with the same options"
        )
    if as_json:
        click.echo(json.dumps(asdict(comparison), indent=2))
    else:
        from api.terminal.console import stdout
        from api.terminal.jobs import comparison_table

        stdout().print(comparison_table(comparison, percent or 0.0))
    if percent is not None and comparison.regressions(percent):
        raise SystemExit(1)


@jobs_group.command("cancel")
@click.argument("job_id", metavar="JOB")
@SERVER
def cancel(job_id: str, server: str) -> None:
    """Stop the tasks of a job that are not done, unless another job wants them."""
    from api.client.client import Client

    click.echo(f"{Client(server).cancel(job_id)} tasks cancelled")


@jobs_group.command("retry")
@click.argument("job_id", metavar="JOB")
@SERVER
def retry(job_id: str, server: str) -> None:
    """Queue again the tasks of a job that failed or were cancelled."""
    from api.client.client import Client

    click.echo(f"{Client(server).retry(job_id)} tasks queued again")


@jobs_group.command("delete")
@click.argument("job_ids", metavar="JOB...", nargs=-1, required=True)
@SERVER
def delete(job_ids: tuple[str, ...], server: str) -> None:
    """Stop and forget jobs; their plans stay."""
    from api.client.client import Client

    client = Client(server)
    for job_id in job_ids:
        client.delete_job(job_id)


@click.command()
@click.option("--processes", type=click.IntRange(min=1), default=1, show_default=True)
@click.option(
    "--task-seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=600.0,
    show_default=True,
    help="Time limit of a task; after it the task is tried again.",
)
@PLAN_MEMORY
@click.option(
    "--without-jail",
    is_flag=True,
    help="Do tasks even where there is no jail for torch, which reads strangers' programs.",
)
@DATA_DIR
@DATABASE
@BLOBS
@LOG_LEVEL
@LOG_FORMAT
def worker(
    processes: int,
    task_seconds: float,
    plan_memory_bytes: int | None,
    without_jail: bool,
    data_dir: Path | None,
    database_url: str | None,
    blobs_url: str | None,
    log_level: Level,
    log_format: Format,
) -> None:
    """Do tasks of a server's jobs, on any machine that can reach its database and data."""
    from platformdirs import user_data_path

    from api.jobs.supervisor import work
    from api.telemetry.logs import LogSettings

    data_dir = data_dir or user_data_path("layout-planner", appauthor=False)
    work(
        processes,
        data_dir,
        database_url,
        task_seconds,
        blobs_url=blobs_url or None,
        plan_memory_bytes=plan_memory_bytes,
        without_jail=without_jail,
        logs=LogSettings(log_level, log_format),
    )


def _watch(client: Client, job_id: str) -> None:
    from api.terminal.jobs import watch_job

    if not watch_job(client.job(job_id), client.follow(job_id)):
        raise SystemExit(1)

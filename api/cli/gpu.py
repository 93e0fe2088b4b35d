"""Commands of the GPU of this machine."""

from __future__ import annotations

import json
from pathlib import Path

import click

from api.cli.options import AS_JSON, PATH, gpu_options


@click.group("gpu")
def gpu_group() -> None:
    """The GPU of this machine, through Vulkan or another backend."""


@gpu_group.command("info")
@gpu_options
@AS_JSON
def gpu_info(backend: str | None, adapter: str | None, as_json: bool) -> None:
    """Print every GPU of this machine, and which one is used: drivers, features, limits."""
    from api.terminal.adapters import adapters_table, describe_adapters
    from gpu.device import choose, list_adapters, parse_backend

    wanted = parse_backend(backend)
    adapters = list_adapters()
    description = describe_adapters(adapters, choose(adapters, wanted, adapter))
    if as_json:
        click.echo(json.dumps(description, indent=2))
        return
    from api.terminal.console import stdout

    stdout().print(adapters_table(description))


@gpu_group.command("bench")
@gpu_options
@click.option(
    "--shape",
    "shapes",
    multiple=True,
    metavar="N,C,H,W",
    help="A tensor to measure with [default: small and medium, and large on hardware]. "
    "May be repeated.",
)
@click.option("--repeats", type=click.IntRange(min=1), default=15, show_default=True)
@click.option("--float16", is_flag=True, help="Use float tensors of 2 bytes per element.")
@click.option("-o", "--output", type=PATH, help="Write the tables here, as Markdown.")
def gpu_bench(
    backend: str | None,
    adapter: str | None,
    shapes: tuple[str, ...],
    repeats: int,
    float16: bool,
    output: Path | None,
) -> None:
    """Time every quantize, dequantize and repack against a plain copy of the same size."""
    from api.bench.gpu import bench as run
    from api.files import check_writable
    from gpu.bench import parse_shape
    from gpu.device import parse_backend

    check_writable(output)
    parsed = [parse_shape(text) for text in shapes]
    run(parse_backend(backend), adapter, parsed, repeats, 2 if float16 else 4, output)


@click.command("replay")
@click.argument("source", metavar="PLAN", type=PATH)
@gpu_options
@click.option(
    "--profile",
    metavar="NAME|FILE",
    help="Predict times by this profile [default: the plan's own costs, if they are in ns].",
)
@click.option(
    "--repeats",
    type=click.IntRange(min=1),
    default=15,
    show_default=True,
    help="Runs of each; the median counts.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Seed of the tensors' data.",
)
@AS_JSON
@click.option("-o", "--output", type=PATH, help="Write the tables here, as Markdown.")
def replay_command(
    source: Path,
    backend: str | None,
    adapter: str | None,
    profile: str | None,
    repeats: int,
    seed: int,
    as_json: bool,
    output: Path | None,
) -> None:
    """Run a plan's repacks and the baseline's on this machine's GPU: check every bit, and measure.

    PLAN is a planned program (plan --plan FILE), or a .pte or VkGraph, which has no baseline.
    """
    from api.files import check_writable, read_input
    from api.terminal.replay import run
    from gpu.device import parse_backend
    from planner.costs.profile_file import load_profile

    check_writable(output)
    run(
        read_input(source),
        source.name,
        None if profile is None else load_profile(profile),
        parse_backend(backend),
        adapter,
        repeats,
        seed,
        as_json,
        output,
    )


@click.command()
@gpu_options
@click.option("-o", "--output", type=PATH, required=True, help="Write the profile here, as JSON.")
@click.option("--name", help="The profile's name [default: the adapter's].")
@click.option("--repeats", type=click.IntRange(min=1), default=21, show_default=True)
@click.option(
    "--report", "report_path", type=PATH, help="Write how well it fits here, as Markdown."
)
def calibrate(
    backend: str | None,
    adapter: str | None,
    output: Path,
    name: str | None,
    repeats: int,
    report_path: Path | None,
) -> None:
    """Measure this machine's GPU and write a profile for plan --profile."""
    from api.bench.gpu import calibration
    from api.files import check_writable
    from gpu.device import parse_backend

    for path in (output, report_path):
        check_writable(path)
    calibration(parse_backend(backend), adapter, name, repeats, output, report_path)

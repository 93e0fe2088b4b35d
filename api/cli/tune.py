"""The command that tunes a program on a device."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import click

from api.cli.options import FOLDER, PATH, limiting_options, progress_bar

if TYPE_CHECKING:
    from api.client.devices import DeviceClient
    from api.client.tuning import Telling
    from planner.measured.device import Device
    from planner.options import PlanOptions
    from planner.tuning.runners import Runner
    from planner.tuning.tune import Watcher

_ANDROID = "/data/local/tmp"
_INTERRUPTED = 130


@click.command()
@click.argument("source", metavar="MODEL.pt2|MODEL.pte", type=PATH)
@click.option(
    "--run",
    "command",
    metavar="CMD",
    help="Runs one program: {pte}, {etdump}, {inputs}, {outputs} and {runs} stand in it.",
)
@click.option(
    "--adb",
    is_flag=False,
    flag_value="",
    metavar="[SERIAL]",
    help="Run on an Android phone, by adb.",
)
@click.option("--ssh", metavar="HOST", help="Run on another machine, by ssh.")
@click.option(
    "--runner",
    metavar="PATH",
    help=f"ExecuTorch's executor_runner there [default: executor_runner, for adb in {_ANDROID}].",
)
@click.option("-o", "--output", type=PATH, help="The best program [default: MODEL.tuned.pte].")
@click.option(
    "--folder", type=FOLDER, help="Where runs are kept, to go on [default: MODEL.tuning]."
)
@click.option("--device", default="device", show_default=True, metavar="NAME", help="Its name.")
@click.option(
    "--input",
    "inputs",
    multiple=True,
    type=PATH,
    help="A file of raw elements for each input, in order [default: drawn by the seed].",
)
@click.option("--rounds", type=click.IntRange(min=1), default=3, show_default=True)
@click.option(
    "--budget", type=click.FloatRange(min=1), metavar="SECONDS", help="The device's time, at most."
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=1),
    default=600,
    show_default=True,
    metavar="SECONDS",
    help="How long one run may take.",
)
@click.option(
    "--inferences",
    type=click.IntRange(min=3),
    default=20,
    show_default=True,
    help="In each run.",
)
@click.option(
    "--blocks",
    type=click.IntRange(min=7),
    default=9,
    show_default=True,
    help="How often each of the best runs against ExecuTorch's plan.",
)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option(
    "--known",
    metavar="NAME|FILE",
    help="What is known of the device already: one that ships with the planner, or a device's "
    "file ('profile export').",
)
@click.option(
    "--server",
    metavar="URL",
    help="A server whose device of this name is learned from, and taught as the tuning goes.",
)
@limiting_options
def tune(
    source: Path,
    command: str | None,
    adb: str | None,
    ssh: str | None,
    runner: str | None,
    output: Path | None,
    folder: Path | None,
    device: str,
    inputs: tuple[Path, ...],
    rounds: int,
    budget: float | None,
    timeout: float,
    inferences: int,
    blocks: int,
    seed: int,
    known: str | None,
    server: str | None,
    options: PlanOptions,
) -> None:
    """Find the fastest plan of a program on a device, by measuring it there.

    ExecuTorch's plan runs first. Each round then tries what might pay, learns from what it takes,
    and plans again. The best are run against ExecuTorch's plan, in turn; the one that is proven
    faster, with the same outputs, is written, or ExecuTorch's own. Run again, it goes on where it
    was broken off.
    """
    from api.client.devices import DeviceClient
    from api.client.tuning import Telling
    from api.files import read_input
    from api.terminal.console import stdout
    from api.terminal.tuning import LiveTuning, tuned_report
    from planner.errors import PlannerError
    from planner.files.whole import write_whole
    from planner.tuning.device import MeasuringDevice
    from planner.tuning.subject import subject_of
    from planner.tuning.tune import COSTS, TuneSettings, Tuning

    # ExecuTorch turns logging on, and each request of the client would be a line.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    chosen = _runner(command, adb, ssh, runner)
    output = output or source.with_suffix(".tuned.pte")
    folder = folder or source.with_suffix(".tuning")
    data = read_input(source)
    shared = None if server is None else DeviceClient(server, device)
    before = _known(device, known, shared)
    settings = TuneSettings(
        rounds=rounds,
        blocks=blocks,
        inferences=inferences,
        seconds=timeout,
        budget=budget,
        seed=seed,
    )
    with progress_bar() as progress:
        subject = subject_of(data, source.name, options, inputs, seed, folder / "inputs", progress)
    console = stdout()
    where = MeasuringDevice(chosen, subject)
    with LiveTuning(console) as live:
        watcher: Watcher = live
        telling = None
        if shared is not None:
            watcher = telling = Telling(shared, source.name, live, live.warn)
        tuning = Tuning(subject, where, device, options, settings, folder, watcher, known=before)
        if telling is not None:
            live.warn(f"{telling.begin(tuning.journal)} shows how it goes")
        try:
            tuned = tuning.result()
        except KeyboardInterrupt:
            _tell_end(telling, "it was broken off")
            click.echo(
                f"What was measured is kept in {folder}, and what was learned in "
                f"{folder / COSTS}: the same command goes on from there.",
                err=True,
            )
            raise SystemExit(_INTERRUPTED) from None
        except PlannerError as error:
            _tell_end(telling, f"it failed: {error}")
            raise
        if telling is not None:
            telling.ended(tuned)
    write_whole(output, tuned.program)
    console.print(tuned_report(tuned))
    console.print(f"{output} is written; {folder} has every run, costs.sqlite what was learned.")


def _tell_end(telling: Telling | None, reason: str) -> None:
    if telling is not None:
        telling.broken_off(reason)


def _known(device: str, known: str | None, shared: DeviceClient | None) -> Device | None:
    """What is known of a device before it is tuned on."""
    from planner.errors import OptionError
    from planner.measured.device import Device, load_device

    if shared is None:
        return None if known is None else load_device(known)
    if known is not None:
        raise OptionError("--known is for tuning without a server: the server knows the device")
    return shared.known() or Device(device, avoid=tuple(shared.avoid()))


def _runner(command: str | None, adb: str | None, ssh: str | None, runner: str | None) -> Runner:
    from planner.errors import OptionError
    from planner.tuning.runners import Adb, CommandRunner, RemoteRunner, Ssh

    if sum(way is not None for way in (command, adb, ssh)) != 1:
        raise OptionError("say how a program runs on the device: by one of --run, --adb and --ssh")
    if command is not None:
        if runner is not None:
            raise OptionError("--runner is for --adb and --ssh: the command names its own")
        return CommandRunner(command)
    if adb is not None:
        path = runner or f"{_ANDROID}/executor_runner"
        return RemoteRunner(Adb(adb or None), path, f"{_ANDROID}/layout-planner")
    assert ssh is not None
    return RemoteRunner(Ssh(ssh), runner or "executor_runner", "/tmp/layout-planner")

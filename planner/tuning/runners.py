"""What runs a program on a device: a user's command, a phone behind ``adb``, a host behind SSH."""

from __future__ import annotations

import hashlib
import re
import shlex
import string
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Final, Literal, Protocol

from planner.errors import OptionError, PlannerError
from schema.frozen import frozen

FailureKind = Literal["crash", "time-out", "away"]
"""Why a run gave nothing: the program failed, it did not end, or the device was not there."""

_LONGEST: Final = 200
_NOISE: Final = re.compile(r"^[EF] [\d:.]+ |^what\(\): |(?:/[\w.+-]+)+/")
_TELLING: Final = ("Exception raised", "Missing operator", "Could not", "raised from", "E 00:")
_COPY_SECONDS: Final = 300.0
_SSH_FAILED: Final = 255
"""What ssh and scp exit with where they do not reach the host."""
_PHONE_AWAY: Final = re.compile(
    r"^(?:adb|error): (?:no devices|device .*(?:not found|offline|unauthorized)|closed)", re.M
)
_WORDS: Final = ("pte", "etdump", "inputs", "outputs", "runs")
"""What stands in braces in a command."""

_STATE: Final = (
    "dumpsys thermalservice; "
    "echo GPU clock: $(cat /sys/class/kgsl/kgsl-3d0/gpuclk /sys/class/devfreq/*mali*/cur_freq)"
)
_HOT: Final = 3
"""Android's thermal status from which a device is throttled: severe."""
_COOLING_SECONDS: Final = 5.0


class RunFailedError(PlannerError):
    """A run that gave no result: its ``kind``, what was ``said``, and the exit code, if any."""

    def __init__(self, kind: FailureKind, said: str, code: int | None = None) -> None:
        reason = reason_of(said)
        if kind == "time-out" or not reason:
            reason = "it did not end in time" if code is None else f"it exited with {code}"
        super().__init__(f"{kind}: {reason}")
        self.kind: FailureKind = kind
        self.said, self.code = said, code


@frozen
class RunRequest:
    """A program to run, and where its results are to be.

    ``outputs`` is what the names of the files of outputs begin with: ``-0.bin`` is the first. The
    program runs ``runs`` times in one process, and is traced into ``etdump``.
    """

    program: Path
    inputs: tuple[Path, ...]
    outputs: Path
    etdump: Path
    runs: int


@frozen
class DeviceState:
    """How a device is: its temperature in degrees Celsius, and its GPU's clock in MHz."""

    temperature: float | None = None
    clock: float | None = None
    is_throttled: bool = False


class Runner(Protocol):
    """What runs programs on one device."""

    def run(self, request: RunRequest, seconds: float) -> None:
        """Runs a program, for at most so long; raises ``RunFailedError``."""

    def state(self) -> DeviceState:
        """How the device is now, as far as it says."""


def check_command(template: str) -> None:
    """Raises ``OptionError`` for a command that names another word, or that is no command line."""
    _filled(template, dict.fromkeys(_WORDS, ""))


def run_command(template: str, words: Mapping[str, str], seconds: float) -> str:
    """Runs a command in which ``{pte}`` and so on stand for others; returns what it said.

    Raises ``OptionError`` for a command that names another word or cannot be started, and
    ``RunFailedError`` if it fails or does not end in time.
    """
    return _output(_filled(template, words), seconds)


def _filled(template: str, words: Mapping[str, str]) -> list[str]:
    try:
        parts = shlex.split(template)
        names = [name for part in parts for _, name, _, _ in string.Formatter().parse(part)]
    except ValueError as error:
        raise OptionError(f"the command {template!r} is no command line: {error}") from error
    unknown = sorted({name for name in names if name is not None}.difference(words))
    if unknown:
        known = ", ".join(f"{{{word}}}" for word in words)
        raise OptionError(f"the command {template!r} names {{{unknown[0]}}}: there is {known}")
    return [part.format(**words) for part in parts]


def _output(parts: Sequence[str], seconds: float) -> str:
    try:
        ended = subprocess.run(
            parts,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise RunFailedError(
            "time-out", (error.stdout or b"").decode("utf-8", "replace")
        ) from error
    except OSError as error:
        raise OptionError(f"cannot run {parts[0]}: {error.strerror}") from error
    said = ended.stdout.decode("utf-8", "replace")
    if ended.returncode:
        raise RunFailedError("crash", said, ended.returncode)
    return said


def reason_of(said: str) -> str:
    """What a runner said that tells why it ended; empty if it said nothing.

    Without times, and folders of the machine that it was built on.
    """
    lines = [line for line in said.splitlines() if line.strip()]
    for number, line in enumerate(lines):
        if any(word in line for word in _TELLING):
            # The reason may be on the next line.
            told = " ".join(" ".join(lines[number : number + 2]).split())
            return _NOISE.sub("", told)[:_LONGEST]
    return lines[-1].strip()[:_LONGEST] if lines else ""


@frozen
class CommandRunner:
    """A command of the user's own, in which ``{pte}``, ``{etdump}`` and so on stand.

    ``{inputs}`` are files with commas between them; ``{outputs}`` is what files of outputs are to
    be called, before ``-0.bin`` and so on; ``{runs}`` is how often the program is to run.
    """

    template: str

    def __post_init__(self) -> None:
        """Raises ``OptionError`` for a wrong template, before anything is done for it."""
        check_command(self.template)

    def run(self, request: RunRequest, seconds: float) -> None:
        """Runs the command; raises ``RunFailedError``, ``OptionError`` if it cannot be started."""
        run_command(
            self.template,
            {
                "pte": str(request.program),
                "etdump": str(request.etdump),
                "inputs": ",".join(map(str, request.inputs)),
                "outputs": str(request.outputs),
                "runs": str(request.runs),
            },
            seconds,
        )

    def state(self) -> DeviceState:
        """Nothing is known of the device."""
        return DeviceState()


class Transport(Protocol):
    """How files and commands get to another machine."""

    def push(self, local: Path, remote: PurePosixPath) -> None:
        """Copies a file there; raises ``RunFailedError``."""

    def pull(self, remote: PurePosixPath, local: Path) -> None:
        """Copies a file here; raises ``RunFailedError``."""

    def shell(self, command: str, seconds: float) -> str:
        """Runs a shell's command there, returns what it said; raises ``RunFailedError``."""


@frozen
class Adb:
    """A phone on a cable, or in the same network, by its serial; None is the only one."""

    serial: str | None = None

    def push(self, local: Path, remote: PurePosixPath) -> None:
        """Copies a file to the phone."""
        self._call(["push", str(local), str(remote)], _COPY_SECONDS)

    def pull(self, remote: PurePosixPath, local: Path) -> None:
        """Copies a file from the phone."""
        self._call(["pull", str(remote), str(local)], _COPY_SECONDS)

    def shell(self, command: str, seconds: float) -> str:
        """Runs a command on the phone."""
        return self._call(["shell", command], seconds)

    def _call(self, words: Sequence[str], seconds: float) -> str:
        chosen = ["-s", self.serial] if self.serial is not None else []
        try:
            return _output(["adb", *chosen, *words], seconds)
        except RunFailedError as error:
            if "more than one device" in error.said:
                raise OptionError(
                    "several phones are connected: name one by its serial ('adb devices')"
                ) from error
            if _PHONE_AWAY.search(error.said):
                raise RunFailedError("away", error.said) from error
            raise


@frozen
class Ssh:
    """Another machine, as ``ssh`` knows it."""

    host: str

    def push(self, local: Path, remote: PurePosixPath) -> None:
        """Copies a file there."""
        self._call(["scp", "-q", "-B", str(local), f"{self.host}:{remote}"], _COPY_SECONDS)

    def pull(self, remote: PurePosixPath, local: Path) -> None:
        """Copies a file here."""
        self._call(["scp", "-q", "-B", f"{self.host}:{remote}", str(local)], _COPY_SECONDS)

    def shell(self, command: str, seconds: float) -> str:
        """Runs a command there."""
        return self._call(["ssh", "-o", "BatchMode=yes", self.host, command], seconds)

    def _call(self, parts: Sequence[str], seconds: float) -> str:
        try:
            return _output(parts, seconds)
        except RunFailedError as error:
            if error.code == _SSH_FAILED:
                raise RunFailedError("away", error.said) from error
            raise


class RemoteRunner:
    """ExecuTorch's ``executor_runner`` on another machine.

    Files lie in a folder there under names of their contents, so that one that is there already
    does not travel again.
    """

    def __init__(self, transport: Transport, runner: str, folder: str) -> None:
        """``runner`` is the path of ``executor_runner`` there, ``folder`` is for our files."""
        self._transport, self._runner = transport, runner
        self._folder = PurePosixPath(folder)
        self._there: set[str] | None = None
        self._names: dict[tuple[Path, int, int], str] = {}

    def run(self, request: RunRequest, seconds: float) -> None:
        """Runs a program there and brings its results; raises ``RunFailedError``."""
        try:
            program, *inputs = (self._push(path) for path in (request.program, *request.inputs))
            options = {
                "model_path": program,
                "inputs": ",".join(inputs),
                "output_file": "out",
                "etdump_path": "run.etdump",
                "num_executions": request.runs,
                "print_output": "none",
            }
            words = [self._runner, *(f"--{key}={value}" for key, value in options.items() if value)]
            folder = shlex.quote(str(self._folder))
            self._transport.shell(
                f"cd {folder} && rm -f out-*.bin run.etdump && {shlex.join(words)}", seconds
            )
            self._transport.pull(self._folder / "run.etdump", request.etdump)
            for name in self._transport.shell(f"ls {folder}", _COPY_SECONDS).split():
                if found := re.fullmatch(r"out(-\d+\.bin)", name):
                    self._transport.pull(self._folder / name, Path(f"{request.outputs}{found[1]}"))
        except RunFailedError as error:
            if error.kind == "away":
                self._there = None  # it may come back as another
            raise

    def state(self) -> DeviceState:
        """What Android says of its temperature, and the driver of its clock, if they do."""
        try:
            said = self._transport.shell(_STATE, _COPY_SECONDS)
        except RunFailedError:
            return DeviceState()
        return parse_state(said)

    def _push(self, path: Path) -> str:
        """The name of a file there, which is copied if it is not."""
        stat = path.stat()
        known = path, stat.st_mtime_ns, stat.st_size
        if known not in self._names:
            self._names[known] = hashlib.sha256(path.read_bytes()).hexdigest()[:20] + path.suffix
        name = self._names[known]
        if self._there is None:
            folder = shlex.quote(str(self._folder))
            said = self._transport.shell(f"mkdir -p {folder} && ls {folder}", _COPY_SECONDS)
            self._there = set(said.split())
        if name not in self._there:
            # A copy that breaks off must not be taken for the file.
            self._transport.push(path, self._folder / f"{name}.part")
            part, whole = (shlex.quote(str(self._folder / n)) for n in (f"{name}.part", name))
            self._transport.shell(f"mv {part} {whole}", _COPY_SECONDS)
            self._there.add(name)
        return name


def parse_state(said: str) -> DeviceState:
    """The state in what Android's ``thermalservice`` and a GPU's driver say."""
    status = re.search(r"Thermal Status: (\d+)", said)
    degrees = [
        float(value)
        for value, kind in re.findall(r"Temperature\{mValue=([-\d.]+), mType=(\d+)", said)
        if kind == "1"  # the GPU's
    ]
    clock = re.search(r"GPU clock: (\d+)", said)
    return DeviceState(
        max(degrees, default=None),
        None if clock is None else int(clock[1]) / 1e6,
        status is not None and int(status[1]) >= _HOT,
    )


def wait_until_cool(
    runner: Runner, seconds: float, sleep: Callable[[float], None] = time.sleep
) -> DeviceState:
    """The state of the device once it does not throttle, or after so many seconds."""
    waited = 0.0
    while (found := runner.state()).is_throttled and waited < seconds:
        sleep(_COOLING_SECONDS)
        waited += _COOLING_SECONDS
    return found

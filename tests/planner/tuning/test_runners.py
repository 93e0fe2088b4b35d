"""What runs programs: commands, and stand-ins for adb and ssh that note how they are called."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from planner.errors import OptionError
from planner.tuning.runners import (
    Adb,
    CommandRunner,
    DeviceState,
    RemoteRunner,
    RunFailedError,
    RunRequest,
    Ssh,
    parse_state,
    reason_of,
    run_command,
    wait_until_cool,
)

WORDS = {"pte": "a program.pte", "runs": "7"}

PHONE = """#!{python}
# The shell of a phone: its files are in a folder, and its runner copies what it is given.
import os, pathlib, re, shutil, subprocess, sys
here = pathlib.Path({folder!r})
words = sys.argv[1:]
with (here / "calls").open("a") as calls:
    print("\\t".join(words), file=calls)
state = (here / "state").read_text()
if state:
    print(state, file=sys.stderr)
    sys.exit({away})
def at(path):
    return here / "phone" / path.lstrip("/")
if words[0] == "-s":
    words = words[2:]
if {ssh}:
    words = ["shell", words[-1]] if sys.argv[0].endswith("ssh") else words[-2:]
    if words[0] != "shell":
        words = ["pull", *words] if ":" in words[0] else ["push", *words]
        words = [word.rpartition(":")[2] for word in words]
if words[0] == "push":
    shutil.copy(words[1], at(words[2]))
elif words[0] == "pull":
    shutil.copy(at(words[1]), words[2])
else:
    # Paths of the phone are those of its folder.
    command = re.sub(r"(?<![\\w.-])/(data/local/tmp|tmp/layout)", rf"{{here}}/phone/\\1", words[1])
    sys.exit(subprocess.run(["sh", "-c", command]).returncode)
"""
RUNNER = """#!{python}
import pathlib, sys
given = dict(word.lstrip("-").split("=", 1) for word in sys.argv[1:])
for number, name in enumerate(given["inputs"].split(",")):
    pathlib.Path(f"{{given['output_file']}}-{{number}}.bin").write_bytes(pathlib.Path(name).read_bytes())
program = pathlib.Path(given["model_path"]).read_bytes()
if program == b"bad":
    sys.exit("E 00:00:00.1 executorch:x.cpp] Missing operator: aten.logical_not.default")
pathlib.Path(given["etdump_path"]).write_bytes(program + given["num_executions"].encode())
"""


def request(folder: Path, program: bytes = b"good") -> RunRequest:
    inputs = []
    for number in range(2):
        inputs.append(folder / f"input-{number}.bin")
        inputs[-1].write_bytes(bytes([number]))
    path = folder / "program.pte"
    path.write_bytes(program)
    return RunRequest(path, tuple(inputs), folder / "out", folder / "run.etdump", 3)


@pytest.mark.parametrize("quoted", ["{pte}", "'{pte}'"])
def test_words_of_a_command_stand_for_others(quoted: str) -> None:
    command = f'{sys.executable} -c "import sys; print(sys.argv[1:])" {quoted} --runs={{runs}}'
    assert run_command(command, WORDS, 60) == "['a program.pte', '--runs=7']\n"


def test_a_command_that_cannot_be() -> None:
    with pytest.raises(OptionError, match=r"names \{out\}: there is \{pte\}, \{runs\}"):
        run_command("run {out}", WORDS, 60)
    with pytest.raises(OptionError, match="cannot run /nowhere/runner: No such file"):
        run_command("/nowhere/runner {pte}", WORDS, 60)


def test_a_run_that_fails_says_why() -> None:
    code = "import sys; print('E 00:00 Missing operator: x'); print('bye'); sys.exit(3)"
    with pytest.raises(RunFailedError, match="crash: Missing operator: x") as failed:
        run_command(f'{sys.executable} -c "{code}"', WORDS, 60)
    assert (failed.value.kind, failed.value.code) == ("crash", 3)
    with pytest.raises(RunFailedError, match="crash: it exited with 4"):
        run_command(f'{sys.executable} -c "raise SystemExit(4)"', WORDS, 60)
    with pytest.raises(RunFailedError, match="time-out: it did not end in time") as failed:
        run_command(f'{sys.executable} -c "import time; time.sleep(600)"', WORDS, 0.2)
    assert failed.value.kind == "time-out"
    assert reason_of("") == ""


def test_a_users_command(tmp_path: Path) -> None:
    runner = tmp_path / "runner"
    runner.write_text(RUNNER.format(python=sys.executable))
    runner.chmod(0o755)
    command = (
        f"{runner} --model_path={{pte}} --inputs={{inputs}} --output_file={{outputs}} "
        "--etdump_path={etdump} --num_executions={runs}"
    )
    CommandRunner(command).run(request(tmp_path), 60)
    assert (tmp_path / "run.etdump").read_bytes() == b"good3"
    assert (tmp_path / "out-1.bin").read_bytes() == b"\1"
    assert CommandRunner(command).state() == DeviceState()


class Phone:
    """A stand-in for another machine: its files, and the calls that reached it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.folder.mkdir()
        (folder / "state").write_text("")
        self.place = folder / "phone/data/local/tmp"
        self.place.mkdir(parents=True)
        (folder / "phone/tmp").mkdir()
        runner = self.place / "executor_runner"
        runner.write_text(RUNNER.format(python=sys.executable))
        runner.chmod(0o755)

    def install(self, name: str, away: int, *, ssh: bool) -> None:
        path = self.folder / name
        text = PHONE.format(python=sys.executable, folder=str(self.folder), away=away, ssh=ssh)
        path.write_text(text)
        path.chmod(0o755)

    def say(self, state: str) -> None:
        (self.folder / "state").write_text(state)

    def calls(self, word: str) -> list[str]:
        lines = (self.folder / "calls").read_text().splitlines()
        return [line for line in lines if word in line.split("\t")]


@pytest.fixture
def phone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Phone]:
    found = Phone(tmp_path / "stand-in")
    found.install("adb", 1, ssh=False)
    found.install("ssh", 255, ssh=True)
    found.install("scp", 255, ssh=True)
    monkeypatch.setenv("PATH", f"{found.folder}:/usr/bin:/bin")
    yield found


def test_a_phone_runs_a_program_and_only_new_files_travel(phone: Phone, tmp_path: Path) -> None:
    def runner() -> RemoteRunner:
        path = "/data/local/tmp/executor_runner"
        return RemoteRunner(Adb("serial"), path, "/data/local/tmp/layout-planner")

    first = runner()
    first.run(request(tmp_path), 60)
    assert (tmp_path / "run.etdump").read_bytes() == b"good3"
    assert [(tmp_path / f"out-{n}.bin").read_bytes() for n in (0, 1)] == [b"\0", b"\1"]
    assert len(phone.calls("push")) == 3
    assert all(call.startswith("-s\tserial\t") for call in phone.calls("push"))
    first.run(request(tmp_path), 60)
    runner().run(request(tmp_path), 60)
    assert len(phone.calls("push")) == 3
    first.run(request(tmp_path, b"other"), 60)
    assert len(phone.calls("push")) == 4
    assert not list((phone.place / "layout-planner").glob("*.part"))
    with pytest.raises(RunFailedError, match=r"crash: .*Missing operator: aten.logical_not"):
        first.run(request(tmp_path, b"bad"), 60)


@pytest.mark.parametrize(
    "said",
    [
        "adb: no devices/emulators found",
        "adb: device 'serial' not found",
        "error: device offline",
        "error: device unauthorized.",
        "error: closed",
    ],
)
def test_a_phone_that_is_away(phone: Phone, tmp_path: Path, said: str) -> None:
    runner = RemoteRunner(Adb(), "/data/local/tmp/executor_runner", "/data/local/tmp/layout")
    phone.say(said)
    with pytest.raises(RunFailedError) as failed:
        runner.run(request(tmp_path), 60)
    assert failed.value.kind == "away" and said in str(failed.value)
    assert runner.state() == DeviceState()
    phone.say("")
    runner.run(request(tmp_path), 60)


def test_one_of_several_phones_has_to_be_named(phone: Phone, tmp_path: Path) -> None:
    runner = RemoteRunner(Adb(), "/data/local/tmp/executor_runner", "/data/local/tmp/layout")
    phone.say("adb: more than one device/emulator")
    with pytest.raises(OptionError, match="several phones are connected: name one by its serial"):
        runner.run(request(tmp_path), 60)


def test_another_host_by_ssh(phone: Phone, tmp_path: Path) -> None:
    path = str(phone.place / "executor_runner")
    runner = RemoteRunner(Ssh("me@host"), path, "/tmp/layout")
    runner.run(request(tmp_path), 60)
    assert (tmp_path / "run.etdump").read_bytes() == b"good3"
    phone.say("ssh: connect to host host port 22: No route to host")
    with pytest.raises(RunFailedError) as failed:
        runner.run(request(tmp_path), 60)
    assert failed.value.kind == "away"


def test_a_runner_that_is_missing_is_no_phone_that_is_away(phone: Phone, tmp_path: Path) -> None:
    runner = RemoteRunner(Adb(), "/data/local/tmp/other_runner", "/data/local/tmp/layout")
    with pytest.raises(RunFailedError) as failed:
        runner.run(request(tmp_path), 60)
    assert failed.value.kind == "crash" and "not found" in failed.value.said


THERMAL = """
Thermal Status: {status}
Current temperatures from HAL:
\tTemperature{{mValue=31.5, mType=3, mName=SKIN, mStatus=0}}
\tTemperature{{mValue=47.25, mType=1, mName=GPU0, mStatus=0}}
GPU clock: 587000000
"""


def test_how_a_phone_is() -> None:
    assert parse_state(THERMAL.format(status=1)) == DeviceState(47.25, 587.0, False)
    assert parse_state(THERMAL.format(status=3)).is_throttled
    assert parse_state("cat: no such file") == DeviceState()


def test_runs_wait_while_a_phone_throttles() -> None:
    class Hot(CommandRunner):
        """Cools down after two looks."""

        looks = 0

        def state(self) -> DeviceState:
            Hot.looks += 1
            return DeviceState(is_throttled=Hot.looks < 3)

    slept: list[float] = []
    assert not wait_until_cool(Hot(""), 600, slept.append).is_throttled
    assert len(slept) == 2
    Hot.looks = -1000
    assert wait_until_cool(Hot(""), 60, slept.append).is_throttled
    assert sum(slept) < 100

"""What commands of the command line share: errors, options, the progress bar."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import KW_ONLY, fields, replace
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar

import click

from api.cli.wording import COMMAND_LINE
from api.client.errors import AwayError
from planner.errors import MissingExtraError, PlannerError
from schema.frozen import frozen

if TYPE_CHECKING:
    from planner.costs.model import CostSource
    from planner.options import PlanOptions
    from planner.result.program import Progress

F = TypeVar("F", bound=Callable[..., Any])
Decorator = Callable[[Callable[..., None]], Callable[..., None]]
USER_ERROR = 2
NOT_PROVEN = 3
UNAVAILABLE = 69  # EX_UNAVAILABLE of sysexits.h
PATH = click.Path(dir_okay=False, path_type=Path)
FOLDER = click.Path(file_okay=False, path_type=Path)


class _Gib(click.FloatRange):
    """Bytes, given in GiB."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        return int(super().convert(value, param, ctx) * 2**30)


GIB = _Gib(min=0, min_open=True)
PLAN_MEMORY = click.option(
    "--plan-memory",
    "plan_memory_bytes",
    type=GIB,
    metavar="GIB",
    help="Memory that planning one program may take [default: three quarters of the machine's].",
)
LOG_LEVEL = click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
    envvar="LAYOUT_PLANNER_LOG_LEVEL",
    show_envvar=True,
    help="Log from this level on, to the standard error: each request and each plan at info.",
)
LOG_FORMAT = click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    envvar="LAYOUT_PLANNER_LOG_FORMAT",
    show_envvar=True,
    help="Log lines for people, or lines of JSON for programs.",
)
KEEP_DAYS = click.option(
    "--keep-days",
    type=click.FloatRange(min=0),
    metavar="N",
    envvar="LAYOUT_PLANNER_KEEP_DAYS",
    show_envvar=True,
    help="Forget plans that nobody asked for in so many days, and jobs that ended before "
    "[default: keep all].",
)
MOST_STORE = click.option(
    "--max-store-gib",
    "most_store_bytes",
    type=_Gib(min=0, min_open=True),
    metavar="GIB",
    envvar="LAYOUT_PLANNER_MAX_STORE_GIB",
    show_envvar=True,
    help="Keep no more than this: plans and jobs that were asked for the longest ago go first "
    "[default: no limit].",
)
PROFILE = click.option(
    "--profile",
    default="default",
    show_default=True,
    metavar="NAME|FILE",
    help="What transitions cost: 'bytes', 'default', or a profile's JSON file.",
)

_COST_DATABASE = click.option(
    "--costs",
    type=PATH,
    metavar="FILE",
    help="Take costs from what a device measured: a database that 'profile import' made. "
    "The profile answers for what is not in it.",
)
_DEVICE = click.option(
    "--device",
    metavar="NAME|FILE",
    help="Plan for this device: its costs, its limits, and without what is wrong on it. One "
    "that ships with the planner, by name, or a file that 'profile export' made. With --costs, "
    "the device in that database [default: the only one].",
)
_BUFFER_LIMIT = click.option(
    "--buffer-limit",
    type=int,
    metavar="N",
    help="Fewest elements that are too many for a buffer [default: no limit].",
)
_AVOID = click.option(
    "--avoid",
    type=PATH,
    metavar="FILE",
    help="Avoid these representations, too: a JSON file of rows (docs/kernels.md).",
)
_GPU = click.option("--gpu", metavar="NAME", help="Avoid what is known to fail on this GPU, too.")

_COSTS: Final[tuple[Decorator, ...]] = (
    PROFILE,
    click.option(
        "--objective",
        metavar="repack|latency",
        help="Least cost of transitions, or of transitions and operators [default: latency where "
        "costs are a device's, else repack].",
    ),
    _COST_DATABASE,
    _DEVICE,
)
_RESTRICTIONS: Final[tuple[Decorator, ...]] = (
    click.option(
        "--pin",
        multiple=True,
        metavar="NAME=REPR",
        help="Give what has this name this representation: a storage (buffer), a layout "
        "(WIDTH_PACKED), or both (texture:WIDTH_PACKED). A name is a type of operator "
        "(aten.mm.default), an operator's number (12), a tensor (v17), input or output. May be "
        "repeated.",
    ),
    click.option(
        "--forbid",
        multiple=True,
        metavar="[NAME:]REPR",
        help="Keep this representation from what has this name, or from all. May be repeated.",
    ),
    click.option("--input-layout", metavar="REPR", help="The representation of all inputs."),
    click.option("--output-layout", metavar="REPR", help="The representation of all outputs."),
)
_BUDGET: Final[tuple[Decorator, ...]] = (
    click.option(
        "--max-transitions",
        type=int,
        metavar="N",
        help="Have no more transitions than this, in all delegates together.",
    ),
    click.option(
        "--max-transition-bytes",
        type=int,
        metavar="BYTES",
        help="Have no copies, by transitions, of more than so many bytes together.",
    ),
    click.option(
        "--max-peak-memory",
        type=int,
        metavar="BYTES",
        help="Have tensors of no more bytes alive at once, in each delegate.",
    ),
)
TARGET = click.option(
    "--target",
    metavar="vulkan|webgpu",
    help="The backend of ExecuTorch's whose runtime is to run it [default: vulkan].",
)
_LIMITS: Final[tuple[Decorator, ...]] = (
    click.option(
        "--texture-limits",
        metavar="X,Y,Z",
        help="Largest image extents in texels [default: ExecuTorch's, 16384,16384,2048].",
    ),
    _BUFFER_LIMIT,
    click.option(
        "--without-layout",
        "without_layouts",
        multiple=True,
        metavar="NAME",
        help="Plan without this layout, to see what it buys. May be repeated.",
    ),
    *_RESTRICTIONS,
    click.option(
        "--runtime",
        metavar="R",
        help="The release of ExecuTorch that is to run the plan: 1.1 to 1.5, or as in 1.3+ "
        "that and later ones [default: of a .pt2 the installed one, of a .pte those that take "
        "it as it is].",
    ),
    _GPU,
    _AVOID,
    click.option("--force-fp16", is_flag=True, help="Lower a .pt2 to float16 in GPU memory."),
    click.option(
        "--compile-option",
        "compile_options",
        multiple=True,
        metavar="NAME[=false]",
        help="Lower a .pt2 with this option of VulkanPartitioner. May be repeated.",
    ),
    click.option(
        "--import",
        "imports",
        multiple=True,
        metavar="MODULE|FILE.py",
        help="Import this first: it defines operators of a .pt2. May be repeated.",
    ),
    click.option(
        "--trust-input",
        "trust",
        is_flag=True,
        help="Let a .pt2 run code that is in it: without this it is vetted, and may be refused.",
    ),
)


class Group(click.Group):
    """Prints errors in one line; exits with 2 if the input is wrong, with 69 without a server."""

    def invoke(self, ctx: click.Context) -> Any:
        """Invokes the command."""
        try:
            return super().invoke(ctx)
        except PlannerError as error:
            _fail(error.worded(COMMAND_LINE), USER_ERROR)
        except AwayError as error:
            _fail(str(error), UNAVAILABLE)
        except click.exceptions.NoArgsIsHelpError:
            raise
        except ModuleNotFoundError as error:
            _fail(_missing(error, ctx).worded(COMMAND_LINE), USER_ERROR)
        except click.UsageError as error:
            command = (error.ctx or ctx).command_path
            _fail(f"{error.format_message()} See {command} --help.", USER_ERROR)


def _missing(error: ModuleNotFoundError, context: click.Context) -> MissingExtraError:
    """The same, as what the command needs; as it is if no extra of the project has the module."""
    from planner.extras import missing

    wanted = missing(context.invoked_subcommand or context.command_path, error.name or "")
    if wanted.extra is None:
        raise error
    return wanted


def _fail(text: str, code: int) -> NoReturn:
    click.echo("Error: " + " ".join(text.split()), err=True)
    raise SystemExit(code)


@frozen
class Asked:
    """The options of planning as they were given."""

    _: KW_ONLY
    profile: str
    objective: str | None
    costs: Path | None
    device: str | None
    texture_limits: str | None
    buffer_limit: int | None
    without_layouts: tuple[str, ...]
    pin: tuple[str, ...]
    forbid: tuple[str, ...]
    input_layout: str | None
    output_layout: str | None
    max_transitions: int | None
    max_transition_bytes: int | None
    max_peak_memory: int | None
    runtime: str | None
    gpu: str | None
    avoid: Path | None
    force_fp16: bool
    compile_options: tuple[str, ...]
    imports: tuple[str, ...]
    trust: bool
    target: str | None

    def options(self) -> PlanOptions:
        """What they mean here. Raises ``OptionError`` and ``InputError``."""
        from planner.options import default_objective, make_options, parse_objective

        options = make_options(
            texture_limits=self.texture_limits,
            without_layouts=self.without_layouts,
            buffer_limit=self.buffer_limit,
            runtime=self.runtime,
            gpu=self.gpu,
            avoid=self.avoid,
            compile_options=self.all_compile_options,
            imports=self.imports,
            trust=self.trust,
            pin=self.pin,
            forbid=self.forbid,
            input_layout=self.input_layout,
            output_layout=self.output_layout,
            max_transitions=self.max_transitions,
            max_transition_bytes=self.max_transition_bytes,
            max_peak_memory=self.max_peak_memory,
            target=self.target,
        )
        is_measured = self.costs is not None or self.device is not None
        objective = self.objective or default_objective(is_measured=is_measured)
        if self.costs is None and self.device is not None:
            from planner.measured.device import device_options

            options = replace(options, costs=make_options(self.profile).costs)
            return device_options(self.device, options, parse_objective(objective))
        costs = read_costs(self.costs, self.device, self.profile)
        priced = make_options(self.profile, objective, costs=costs)
        return replace(options, costs=priced.costs, objective=priced.objective)

    @property
    def all_compile_options(self) -> tuple[str, ...]:
        """The compile options, with those that have an option of their own."""
        return (*self.compile_options, *(["force_fp16"] * self.force_fp16))


def asked_options(command: Callable[..., None]) -> Callable[..., None]:
    """Options of planning; the command gets them as they were given, as ``asked``."""

    @wraps(command)
    def with_asked(**given: Any) -> None:
        asked = Asked(**{field.name: given.pop(field.name) for field in fields(Asked)})
        command(asked=asked, **given)

    return _decorated(with_asked, (TARGET, *_COSTS, *_BUDGET, *_LIMITS))


def planning_options(command: Callable[..., None]) -> Callable[..., None]:
    """Options of planning; the command gets them together, as ``options``."""

    @wraps(command)
    def with_options(asked: Asked, **others: Any) -> None:
        command(options=asked.options(), **others)

    return asked_options(with_options)


def limiting_options(command: Callable[..., None]) -> Callable[..., None]:
    """The options of planning that say what a plan may be, and not what it is to cost."""

    @wraps(command)
    def with_limits(
        texture_limits: str | None,
        buffer_limit: int | None,
        without_layouts: tuple[str, ...],
        runtime: str | None,
        gpu: str | None,
        avoid: Path | None,
        force_fp16: bool,
        compile_options: tuple[str, ...],
        imports: tuple[str, ...],
        trust: bool,
        pin: tuple[str, ...],
        forbid: tuple[str, ...],
        input_layout: str | None,
        output_layout: str | None,
        **others: Any,
    ) -> None:
        from planner.options import make_options

        options = make_options(
            texture_limits=texture_limits,
            without_layouts=without_layouts,
            buffer_limit=buffer_limit,
            runtime=runtime,
            gpu=gpu,
            avoid=avoid,
            compile_options=(*compile_options, *(["force_fp16"] * force_fp16)),
            imports=imports,
            trust=trust,
            pin=pin,
            forbid=forbid,
            input_layout=input_layout,
            output_layout=output_layout,
        )
        command(options=options, **others)

    return _decorated(with_limits, _LIMITS)


def verifying_options(command: Callable[..., None]) -> Callable[..., None]:
    """The options of planning that a planned program does not name; together, as ``options``."""

    @wraps(command)
    def with_options(
        profile: str,
        costs: Path | None,
        device: str | None,
        buffer_limit: int | None,
        gpu: str | None,
        avoid: Path | None,
        **others: Any,
    ) -> None:
        from planner.options import make_options

        found = make_options(profile, buffer_limit=buffer_limit, gpu=gpu, avoid=avoid)
        if costs is None and device is not None:
            from planner.measured.device import device_options

            found = device_options(device, found, "latency")
        else:
            priced = make_options(profile, costs=read_costs(costs, device, profile))
            found = replace(found, costs=priced.costs)
        command(options=found, **others)

    return _decorated(with_options, (PROFILE, _COST_DATABASE, _DEVICE, _BUFFER_LIMIT, _GPU, _AVOID))


def wanting_options(command: Callable[..., None]) -> Callable[..., None]:
    """Limits of the user's own; the command gets them as ``restrictions`` and ``budget``."""

    @wraps(command)
    def with_wanted(**given: Any) -> None:
        from planner.options import WANTED, make_wanted

        wanted: Any = {name: given.pop(name) for name in WANTED}
        restrictions, budget = make_wanted(**wanted)
        command(restrictions=restrictions, budget=budget, **given)

    return _decorated(with_wanted, (*_RESTRICTIONS, *_BUDGET))


def _decorated(command: Callable[..., None], options: Sequence[Decorator]) -> Callable[..., None]:
    for option in reversed(options):
        command = option(command)
    return command


def read_costs(costs: Path | None, device: str | None, profile: str) -> CostSource | None:
    """The measured costs that ``--costs`` and ``--device`` name; None without any.

    A device without a database is one that ships with the planner, or the path of a device's file.
    """
    if costs is not None:
        from planner.measured.costs import load_costs

        return load_costs(costs, device, profile)
    if device is not None:
        from planner.measured.device import device_options
        from planner.options import make_options

        return device_options(device, make_options(profile)).costs
    return None


def gpu_options(command: F) -> F:
    """Options that choose a GPU."""
    options = (
        click.option(
            "--backend",
            metavar="vulkan|metal|d3d12|opengl",
            help="Use a GPU of this backend [default: the first of these that there is].",
        ),
        click.option(
            "--adapter",
            metavar="NAME",
            help="Use a GPU with this in its name [default: hardware before software].",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """A progress bar on standard error, where that is a terminal."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda stage, delegate: None
        return
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as p:
        task = p.add_task("starting", total=None)
        done = 0

        def progress(stage: str, delegate: object) -> None:
            nonlocal done
            done += delegate is not None
            p.update(task, description=stage + (f": delegate {done}" if delegate else ""))

        yield progress


AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")

"""The options of planning."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import field
from pathlib import Path
from typing import Any, Final, TypedDict, Unpack

from planner.costs.by_profile import ProfileSource
from planner.costs.model import CostModel, CostSource, Objective
from planner.costs.profile import DeviceProfile
from planner.costs.profile_file import load_profile
from planner.errors import OptionError
from planner.ir.physical import ImageExtents
from planner.ir.representation import FLOAT_LAYOUTS, QUANTIZED_LAYOUTS
from planner.kernels.faults import Faults, builtin_faults, load_faults
from planner.kernels.limits import Budget, Limits
from planner.kernels.releases import Runtime, Target, parse_runtime, parse_target
from planner.kernels.restrictions import Restriction, parse_restrictions
from schema import VkMemoryLayout
from schema.frozen import frozen

_OBJECTIVES: Final[tuple[Objective, ...]] = ("repack", "latency")


class Wanted(TypedDict, total=False):
    """Limits of the user's own, as arguments of ``make_options``."""

    pin: Iterable[str]
    """Restrictions written ``NAME=REPRESENTATION``."""
    forbid: Iterable[str]
    """Such written ``[NAME:]REPRESENTATION``."""
    input_layout: str | None
    """The representation of all inputs."""
    output_layout: str | None
    """That of all outputs."""
    max_transitions: int | None
    """For all transitions of a program together."""
    max_transition_bytes: int | None
    """For all their copies together, in memory."""
    max_peak_memory: int | None
    """The most bytes of tensors that are alive at once in a delegate."""


WANTED: Final = tuple(Wanted.__annotations__)
"""The names of the user's own limits."""

_LIMITS: Final = tuple(name.replace("_", "-") for name in WANTED)


def _default_costs() -> CostSource:
    return ProfileSource(load_profile("default"))


COMPILE_OPTIONS: Final = (
    *("alias_buffer_mutations", "downcast_64_bit", "force_fp16", "require_dynamic_shapes"),
    *("skip_bool_tensors", "warmup_execute_after_compile"),
)
"""The options of ``VulkanPartitioner`` that are true or false, and leave layouts to be planned.

Source: ExecuTorch 1.5.1, ``vulkan_partitioner.py``, ``vulkan_preprocess.py``, and of its runtime
``VulkanBackend.cpp``.
"""


MOST_ALTERNATIVES: Final = 100
"""Most plans that are listed beside the one that is chosen: each is written and checked."""


@frozen
class LoweringOptions:
    """How a program is lowered: the limits of the device, and options of ``VulkanPartitioner``.

    What exceeds the limits stays on the CPU. None are ExecuTorch's own limits. ``imports`` are
    modules that define operators of the program, or paths of such Python files. ``trust`` says
    that code in the program may run: it is then not vetted. ``runtime`` is the one that is to run
    it, where it lacks operators that Vulkan's has: these stay on the CPU.
    """

    texture_limits: ImageExtents | None = None
    buffer_limit: int | None = None
    compile_options: tuple[tuple[str, bool], ...] = ()
    imports: tuple[str, ...] = ()
    trust: bool = False
    runtime: Runtime = field(default_factory=Runtime)

    def document(self) -> dict[str, Any]:
        """The options as a JSON document, which ``read_lowering`` reads."""
        is_vulkan = self.runtime.target == "vulkan"
        return {
            "texture_limits": self.texture_limits,
            "buffer_limit": self.buffer_limit,
            "compile_options": dict(self.compile_options),
            **({} if is_vulkan else {"webgpu": str(self.runtime)}),
        }

    def for_partitioner(self) -> dict[str, Any]:
        """The options as ``VulkanPartitioner`` takes them."""
        found: dict[str, Any] = dict(self.compile_options)
        if self.texture_limits is not None:
            found["texture_limits"] = self.texture_limits
        if self.buffer_limit is not None:
            found["buffer_limit"] = self.buffer_limit
        return found


def read_lowering(document: Mapping[str, Any]) -> LoweringOptions:
    """The options of ``LoweringOptions.document``."""
    limits, webgpu = document["texture_limits"], document.get("webgpu")
    return LoweringOptions(
        None if limits is None else (limits[0], limits[1], limits[2]),
        document["buffer_limit"],
        tuple(document["compile_options"].items()),
        runtime=Runtime() if webgpu is None else parse_runtime(webgpu).of("webgpu"),
    )


@frozen
class PlanOptions:
    """The options of a plan.

    ``costs`` are the costs of repacks and operators: a device profile, or a device's measured
    times. ``texture_limits`` are in texels; None means those that the program is lowered with. A
    buffer must have fewer elements than ``buffer_limit``; None leaves that to the partitioner, as
    ExecuTorch does. ``runtime`` are the releases that the plan is for; None means the one that
    lowers a program here, and for a program that came lowered every release that takes it as it
    is. Besides the known faults of kernels, those that concern the ``gpu`` (its name as Vulkan
    gives it) among them, the plan avoids those to ``avoid``. ``known`` are the planner's own table,
    unless a sweep of kernels is to meet them. ``compile_options`` are ``VulkanPartitioner``'s, for
    a program that is lowered here, ``imports`` the modules that define its own operators, and
    ``trust`` whether code in it may run. ``alternatives`` is how many of the plans that come next
    are listed, for each delegate. ``restrictions`` are representations that operands and tensors
    must have, or must not, and the ``budget`` is for all transitions of a program together, and for
    the memory of each delegate. ``target`` is the backend whose runtime is to run the
    plan; None is Vulkan's, and refuses a program that was planned for another one.
    """

    costs: CostSource = field(default_factory=_default_costs)
    objective: Objective = "repack"
    texture_limits: ImageExtents | None = None
    excluded_layouts: frozenset[VkMemoryLayout] = frozenset()
    buffer_limit: int | None = None
    runtime: Runtime | None = None
    gpu: str | None = None
    avoid: Faults = field(default_factory=Faults)
    known: Faults = field(default_factory=builtin_faults)
    compile_options: tuple[tuple[str, bool], ...] = ()
    imports: tuple[str, ...] = ()
    trust: bool = False
    alternatives: int = 0
    restrictions: tuple[Restriction, ...] = ()
    budget: Budget = field(default_factory=Budget)
    target: Target | None = None

    @property
    def lowering(self) -> LoweringOptions:
        """How a program is to be lowered."""
        return LoweringOptions(
            self.texture_limits,
            self.buffer_limit,
            self.compile_options,
            self.imports,
            self.trust,
            Runtime() if self.target != "webgpu" else (self.runtime or Runtime()).of("webgpu"),
        )

    def check_for(self, target: Target) -> None:
        """Raises ``OptionError`` for options that mean nothing to a backend's runtime."""
        if target == "vulkan":
            return
        named = {
            "a device": not isinstance(self.costs, ProfileSource),
            "the objective latency": self.objective == "latency",
            "a GPU": self.gpu is not None,
            "an avoid list": bool(self.avoid.rows),
            "force_fp16": dict(self.compile_options).get("force_fp16", False),
        }
        for what, is_named in named.items():
            if is_named:
                raise OptionError(f"{what} is for Vulkan's kernels, not for WebGPU's: leave it out")

    @property
    def wanted(self) -> tuple[str, ...]:
        """The user's limits in words, which ``parse_limits`` reads."""
        words = (restriction.words for restriction in self.restrictions)
        return (*words, *self.budget.words)

    @property
    def profile(self) -> DeviceProfile:
        """The profile whose unit costs are counted in."""
        return self.costs.profile

    def cost_model(self) -> CostModel:
        """The prices under the objective; raises ``OptionError`` if the costs have none for it."""
        return self.costs.model(self.objective)

    def limits(self, lowered_with: ImageExtents, runtime: Runtime | None = None) -> Limits:
        """The limits of a plan for a program that is lowered with these texture limits.

        It is for the ``runtime``, by default the one that the options name, else the latest
        release. Faults are of Vulkan's kernels.
        """
        runtime = runtime or self.runtime or Runtime()
        known = Faults(self.known.rows + self.avoid.rows) if self.avoid.rows else self.known
        return Limits(
            self.texture_limits or lowered_with,
            self.excluded_layouts,
            self.buffer_limit,
            runtime,
            known.for_device(runtime, self.gpu) if runtime.target == "vulkan" else Faults(),
            self.restrictions,
            self.budget,
        )


def make_options(
    profile: str | DeviceProfile = "default",
    objective: str = "repack",
    texture_limits: str | None = None,
    without_layouts: Iterable[str] = (),
    buffer_limit: int | None = None,
    costs: CostSource | None = None,
    runtime: str | None = None,
    gpu: str | None = None,
    avoid: Faults | str | Path | None = None,
    compile_options: Iterable[str] = (),
    imports: Iterable[str] = (),
    trust: bool = False,
    alternatives: int = 0,
    target: str | None = None,
    **wanted: Unpack[Wanted],
) -> PlanOptions:
    """Checked options from a user's values.

    ``profile`` is a profile, the name of a built-in one, or the path of a profile's JSON file;
    ``costs``, if given, replace it (``planner.load_costs``). ``texture_limits`` are written
    ``X,Y,Z``, in texels. ``buffer_limit`` is a number of elements. ``runtime`` is a release of
    ExecuTorch, or as in ``1.3+`` that and later ones. ``avoid`` are faults of kernels, or the path
    of a JSON file of them. ``compile_options`` are ``VulkanPartitioner``'s, written ``force_fp16``
    or ``downcast_64_bit=false``; ``imports`` are modules or Python files.
    ``trust`` lets code in an exported program run, which is vetted otherwise. ``alternatives`` is
    how many plans to list that come next. ``target`` is ``vulkan`` or ``webgpu``. What is
    ``wanted`` besides are limits: ``pin``, ``forbid``, ``input_layout``, ``output_layout``,
    ``max_transitions``, ``max_transition_bytes`` and ``max_peak_memory`` (see ``Wanted``). Raises
    ``OptionError`` naming the wrong option.
    """
    if costs is None:
        costs = ProfileSource(load_profile(profile) if isinstance(profile, str) else profile)
    restrictions, budget = make_wanted(**wanted)
    options = PlanOptions(
        costs=costs,
        objective=parse_objective(objective),
        texture_limits=None if texture_limits is None else parse_texture_limits(texture_limits),
        excluded_layouts=frozenset(map(parse_layout, without_layouts)),
        buffer_limit=None if buffer_limit is None else check_buffer_limit(buffer_limit),
        runtime=None if runtime is None else parse_runtime(runtime),
        gpu=gpu,
        avoid=load_faults(avoid) if isinstance(avoid, (str, Path)) else avoid or Faults(),
        compile_options=tuple(sorted(dict(map(parse_compile_option, compile_options)).items())),
        imports=tuple(imports),
        trust=trust,
        alternatives=check_alternatives(alternatives),
        restrictions=restrictions,
        budget=budget,
        target=None if target is None else parse_target(target),
    )
    options.cost_model()
    return options


def parse_limits(texts: Iterable[str]) -> dict[str, Any]:
    """Limits as arguments of ``make_options``, from texts such as ``pin aten.mm.default=buffer``.

    Each is an option of the command line and its value. Raises ``OptionError``.
    """
    found: dict[str, Any] = {"pin": [], "forbid": []}
    for text in texts:
        option, _, value = text.strip().removeprefix("--").partition(" ")
        key, value = option.replace("-", "_"), value.strip()
        if option not in _LIMITS or not value:
            raise OptionError(
                f"{text!r} is not a limit: write one of {', '.join(_LIMITS)} with its value, as in "
                "'forbid texture'"
            )
        if key in ("pin", "forbid"):
            found[key].append(value)
        elif found.setdefault(key, _number(option, value)) != _number(option, value):
            raise OptionError(f"{option} is {found[key]} and {value}: name one of them")
    return found


def read_wanted(texts: Iterable[str]) -> tuple[tuple[Restriction, ...], Budget]:
    """Limits from the texts that ``PlanOptions.wanted`` gives. Raises ``OptionError``."""
    return make_wanted(**parse_limits(texts))


def make_wanted(**wanted: Unpack[Wanted]) -> tuple[tuple[Restriction, ...], Budget]:
    """Limits of the user's own from their values. Raises ``OptionError``."""
    budget = Budget(
        _check_most("max-transitions", wanted.get("max_transitions")),
        _check_most("max-transition-bytes", wanted.get("max_transition_bytes")),
        _check_most("max-peak-memory", wanted.get("max_peak_memory")),
    )
    restrictions = parse_restrictions(
        wanted.get("pin", ()),
        wanted.get("forbid", ()),
        wanted.get("input_layout"),
        wanted.get("output_layout"),
    )
    return restrictions, budget


def _number(option: str, value: str) -> str | int:
    """The value of a limit; raises ``OptionError`` for one that should be a number."""
    if not option.startswith("max-"):
        return value
    if not value.isdecimal():
        raise OptionError(f"{option} {value!r} is not a number from 0 up")
    return int(value)


def _check_most(option: str, most: int | None) -> int | None:
    """The limit itself; raises ``OptionError`` unless it is a number from 0 up."""
    if most is not None and not 0 <= most < 2**53:
        raise OptionError(f"{option} {most} is not a number from 0 up")
    return most


def default_objective(*, is_measured: bool) -> Objective:
    """The objective of a plan that names none: time, if times were measured to plan with."""
    return "latency" if is_measured else "repack"


def parse_objective(text: str) -> Objective:
    """The objective of this name; raises ``OptionError`` for an unknown one."""
    for objective in _OBJECTIVES:
        if text == objective:
            return objective
    raise OptionError(f"unknown objective {text!r}: use {' or '.join(_OBJECTIVES)}")


def parse_texture_limits(text: str) -> ImageExtents:
    """Largest image extents in texels, from ``X,Y,Z``; raises ``OptionError``."""
    try:
        x, y, z = (int(part) for part in text.split(","))
    except ValueError:
        x = y = z = 0
    if min(x, y, z) < 1 or max(x, y, z) >= 2**31:
        raise OptionError(
            f"texture limits {text!r} are not three positive numbers of texels: "
            "write X,Y,Z, as in 2048,2048,2048"
        )
    return x, y, z


def check_buffer_limit(elements: int) -> int:
    """The limit itself; raises ``OptionError`` unless it is a positive number of elements."""
    if not 1 <= elements < 2**63:
        raise OptionError(f"buffer limit {elements} is not a positive number of elements")
    return elements


def check_alternatives(count: int) -> int:
    """The number itself; raises ``OptionError`` for one that cannot be listed."""
    if not 0 <= count <= MOST_ALTERNATIVES:
        raise OptionError(
            f"{count} alternatives cannot be listed: ask for 0 to {MOST_ALTERNATIVES}"
        )
    return count


def parse_compile_option(text: str) -> tuple[str, bool]:
    """A compile option and its value, from ``NAME`` or ``NAME=false``; raises ``OptionError``."""
    name, _, value = text.strip().partition("=")
    values = {"": True, "true": True, "1": True, "false": False, "0": False}
    if name in COMPILE_OPTIONS and value.lower() in values:
        return name, values[value.lower()]
    raise OptionError(
        f"unknown compile option {text!r}: use one of {', '.join(COMPILE_OPTIONS)}, "
        "as NAME or NAME=false"
    )


def parse_layout(name: str) -> VkMemoryLayout:
    """The memory layout of this name, with or without its family prefix; raises ``OptionError``."""
    layouts = (*FLOAT_LAYOUTS, *QUANTIZED_LAYOUTS)
    wanted = name.strip().upper()
    for layout in layouts:
        if layout.name in (wanted, f"TENSOR_{wanted}", f"PACKED_INT8_{wanted}"):
            return layout
    raise OptionError(f"unknown layout {name!r}: use one of {', '.join(x.name for x in layouts)}")

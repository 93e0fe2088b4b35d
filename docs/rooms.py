"""Rooms and floors of the code: prints them, and keeps their pictures in ``architecture.md``.

A room is a module or a package of a folder; an arrow leads from a room to one that it imports; a
room's floor is one above the highest that it imports. ``python docs/rooms.py`` writes the page,
``--check`` fails if the page is not what the code says, or if the house outgrows its plan.
"""

from __future__ import annotations

import argparse
import ast
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grimp
import networkx as nx

ROOT: Final = Path(__file__).resolve().parents[1]
PAGE: Final = ROOT / "docs" / "architecture.md"
HOUSES: Final = ("schema", "solver", "planner", "gpu", "api")
MOST_ROOMS: Final = {"planner": 18, "api": 12}
MOST_FLOORS: Final = {"planner": 12}
_BEGIN, _END = "<!-- rooms: {} -->", "<!-- end of rooms -->"


@dataclass(frozen=True, slots=True)
class House:
    """The rooms of a folder, or the folders of the project, with their floors (1 is the ground)."""

    name: str
    arrows: nx.DiGraph
    floors: dict[str, int]

    @property
    def height(self) -> int:
        """How many floors there are."""
        return max(self.floors.values())


def read_houses() -> list[House]:
    """The project as a whole, then each of its folders that has floors of its own."""
    graph = grimp.build_graph(*HOUSES, exclude_type_checking_imports=True, cache_dir=None)
    modules = {m for m in graph.modules if not m.startswith("schema.generated")}
    imports = [(a, b) for a in modules for b in graph.find_modules_directly_imported_by(a)]
    whole = _house("", imports, set(HOUSES), lambda module: module.split(".")[0])
    parts = [_part(name, imports, modules) for name in ("planner", "api")]
    return [whole, *parts]


def _part(name: str, imports: list[tuple[str, str]], modules: set[str]) -> House:
    def room(module: str) -> str:
        parts = module.split(".")
        return parts[1] if parts[0] == name and len(parts) > 1 else ""

    return _house(name, imports, {room(m) for m in modules} - {""}, room)


def _house(
    name: str, imports: list[tuple[str, str]], rooms: set[str], room: Callable[[str], str]
) -> House:
    arrows = nx.DiGraph()
    arrows.add_nodes_from(sorted(rooms))
    for importer, imported in sorted(imports):
        a, b = room(importer), room(imported)
        if a != b and {a, b} <= rooms:
            arrows.add_edge(a, b)
    if not nx.is_directed_acyclic_graph(arrows):
        circle = " -> ".join(a for a, _ in nx.find_cycle(arrows))
        sys.exit(f"{name or 'the project'} has a circle of imports: {circle}")
    floors: dict[str, int] = {}
    for node in reversed(list(nx.topological_sort(arrows))):
        floors[node] = 1 + max((floors[below] for below in arrows.successors(node)), default=0)
    return House(name, arrows, floors)


def outgrown(house: House) -> list[str]:
    """What is more than the plan of a house allows, in a line each."""
    found = []
    rooms, floors = len(house.floors), house.height
    if rooms > MOST_ROOMS.get(house.name, rooms):
        found.append(f"{house.name}/ has {rooms} rooms, more than {MOST_ROOMS[house.name]}")
    if floors > MOST_FLOORS.get(house.name, floors):
        found.append(f"{house.name}/ has {floors} floors, more than {MOST_FLOORS[house.name]}")
    return found


def drawing(house: House) -> Iterator[str]:
    """The house in Markdown: its figures, a picture, and every room with what it is."""
    arrows = house.arrows.number_of_edges()
    yield f"{len(house.floors)} rooms on {house.height} floors, {arrows} arrows."
    yield ""
    yield "```mermaid"
    yield "flowchart TD"
    # What follows from other arrows is left out of the picture.
    for a, b in sorted(nx.transitive_reduction(house.arrows).edges):
        yield f"    {a} --> {b}"
    yield "```"
    yield ""
    yield "| floor | room | |"
    yield "| ---: | --- | --- |"
    for name, floor in sorted(house.floors.items(), key=lambda found: (-found[1], found[0])):
        yield f"| {floor} | `{_path(house.name, name)}` | {_purpose(house.name, name)} |"


def _path(house: str, room: str) -> str:
    path = "/".join(part for part in (house, room) if part)
    return f"{path}/" if (ROOT / path).is_dir() else f"{path}.py"


def _purpose(house: str, room: str) -> str:
    path = ROOT / _path(house, room)
    source = (path / "__init__.py" if path.is_dir() else path).read_text("utf-8")
    text = ast.get_docstring(ast.parse(source)) or ""
    return " ".join(text.split("\n\n")[0].split())


def written(page: str, houses: list[House]) -> str:
    """The page, with the houses as they are now between its marks."""
    for house in houses:
        begin = _BEGIN.format(house.name or "project")
        before, rest = page.split(f"{begin}\n", 1)
        _, after = rest.split(_END, 1)
        page = f"{before}{begin}\n" + "\n".join(drawing(house)) + f"\n{_END}{after}"
    return page


def main() -> None:
    """Print the figures of every house; write the page or check it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, fail if stale")
    options = parser.parse_args()
    houses = read_houses()
    for house in houses:
        arrows = house.arrows.number_of_edges()
        name = f"{house.name}/" if house.name else "the project"
        print(f"{name}: {len(house.floors)} rooms, {house.height} floors, {arrows} arrows")
    wrong = [line for house in houses for line in outgrown(house)]
    page = PAGE.read_text("utf-8")
    if options.check and written(page, houses) != page:
        wrong.append("docs/architecture.md is not what the code says: run python docs/rooms.py")
    if wrong:
        sys.exit("\n".join(wrong))
    if not options.check:
        PAGE.write_text(written(page, houses), "utf-8")


if __name__ == "__main__":
    main()

"""Rules about the code base as a whole."""

import ast
import subprocess
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LAYERS = ["kernels", "engines", "pipeline", "run_pipeline"]  # each may import those before it
# Rooms that are about to be sorted out; empty when they are.
STILL_IN_A_CIRCLE = ("squeezedrive.engines.backends", "squeezedrive.pipeline.sinks",
                     "squeezedrive.pipeline.app.outputs")  # fmt: skip
TORCH = find_spec("torch") is not None  # the extra that training needs
SOURCES = [
    *sorted(path for layer in LAYERS[:-1] for path in (ROOT / layer).rglob("*.py")),
    ROOT / "run_pipeline.py",
]


def imported_layers(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    names = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    } | {
        node.module or ""
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.level == 0
    }
    # Inside the package: the bare names belong to other people's packages. And no test's helpers.
    assert not {name.split(".")[0] for name in names} & {*LAYERS[:-1], "tests"}, path
    own = {name.removeprefix("squeezedrive.") for name in names if name.startswith("squeezedrive.")}
    return {name.split(".")[0] for name in own} & set(LAYERS)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path: Path) -> None:
    layer = path.relative_to(ROOT).parts[0].removesuffix(".py")
    allowed = set(LAYERS[: LAYERS.index(layer) + 1])
    assert imported_layers(path) <= allowed


def test_the_check_of_imports_sees_imports() -> None:
    assert imported_layers(ROOT / "run_pipeline.py") == {"pipeline"}


def test_kernels_and_pipeline_know_nothing_of_each_others_trade() -> None:
    def packages(layer: str) -> set[str]:
        found = set()
        for path in (ROOT / layer).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Import):
                    found |= {alias.name.split(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module:
                    found.add(node.module.split(".")[0])
        return found

    assert not packages("kernels") & {"av", "openvino", "onnx", "pygame", "threading"}
    assert not packages("pipeline") & {"openvino", "onnx", "numba", "pycuda", "tensorrt"}


MODULES = {
    ".".join(("squeezedrive", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(
        ".__init__"
    ): path
    for path in SOURCES[:-1]
    if path.name != "__main__.py" and (TORCH or "training" not in path.parts)
}


def imported(name: str) -> set[str]:
    """Return the modules of this project that one imports, be it in a function when it runs."""
    found = {name.rpartition(".")[0]}
    for node in ast.walk(ast.parse(MODULES[name].read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found & MODULES.keys()


def in_a_circle(edges: Mapping[str, set[str]]) -> set[str]:
    """Return the modules from which imports lead back to themselves."""

    def reached(name: str) -> set[str]:
        seen: set[str] = set()
        ahead = list(edges[name])
        while ahead:
            module = ahead.pop()
            if module not in seen:
                seen.add(module)
                ahead += edges[module]
        return seen

    return {name for name in edges if name in reached(name)}


def test_no_imports_go_in_a_circle() -> None:
    found = in_a_circle({name: imported(name) for name in MODULES})
    assert not {name for name in found if not name.startswith(STILL_IN_A_CIRCLE)}


def test_a_circle_of_imports_is_seen() -> None:
    edges = {"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": set()}
    assert in_a_circle(edges) == {"b", "c"}


FLOORS = {  # what the rooms of the pipeline below all others may know of it
    "core": {"core"},
    "stages": {"core", "stages", "tracking"},
    "tracking": {"core", "tracking"},
}


@pytest.mark.parametrize("room", FLOORS)
def test_lower_rooms_know_nothing_of_higher_ones(room: str) -> None:
    package = "squeezedrive.pipeline."
    inside = [name for name in MODULES if name.startswith(f"{package}{room}.")]
    assert inside
    known = {module for name in inside for module in imported(name) if module.startswith(package)}
    assert {module.removeprefix(package).split(".")[0] for module in known} <= FLOORS[room]


def test_every_module_can_be_imported() -> None:
    """No GPU package is needed."""
    script = """
import importlib, sys
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except Exception as error:
        print(name, repr(error))
"""
    done = subprocess.run(
        [sys.executable, "-c", script, *MODULES],
        cwd=ROOT, capture_output=True, text=True, timeout=100, check=True,
    )  # fmt: skip
    assert done.stdout == ""


def test_help_loads_no_heavy_package() -> None:
    script = (
        "import sys\nfrom squeezedrive.pipeline.app.command_line import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted({m.split('.')[0] for m in sys.modules}), file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert "examples:" in done.stdout
    for heavy in ("numpy", "cv2", "av", "numba", "openvino", "pydantic", "yaml", "rich"):
        assert f"'{heavy}'" not in done.stderr


def test_files_hold_one_concept_each() -> None:
    for path in SOURCES:
        assert len(path.read_text().splitlines()) <= 400, path

"""Rules about the code base as a whole."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LAYERS = ["kernels", "engines", "pipeline", "squeezedrive"]  # each may import the layers before it
TORCH = find_spec("torch") is not None  # training needs this extra
PYARROW = find_spec("pyarrow") is not None  # fleets need this extra
SOURCES = [
    *sorted(path for layer in LAYERS[:-1] for path in (ROOT / layer).rglob("*.py")),
    *sorted((ROOT / "squeezedrive").glob("*.py")),  # its folders are links to the layers
]


def names_imported(path: Path) -> set[str]:
    """Return the modules that a file imports, also inside functions, and their imported names."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path: Path) -> None:
    names = names_imported(path)
    # Without `squeezedrive.` before them, these names could be packages of other projects.
    assert not {name.split(".")[0] for name in names} & {*LAYERS[:-1], "tests", "run_pipeline"}
    own = {tuple(name.split(".")[1:]) for name in names if name.startswith("squeezedrive.")}
    known = {name[0] if name[0] in LAYERS else "squeezedrive" for name in own}
    assert known <= set(LAYERS[: LAYERS.index(path.relative_to(ROOT).parts[0]) + 1])


def test_kernels_and_pipeline_do_not_import_each_others_packages() -> None:
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


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    name = ".".join(parts if parts[0] == "squeezedrive" else ("squeezedrive", *parts))
    return name.removesuffix(".__init__")


MODULES = {
    module_of(path): path
    for path in SOURCES
    if path.name != "__main__.py"
    and (TORCH or "training" not in path.parts)
    and (PYARROW or "fleet" not in path.parts)
}


def imported(name: str) -> set[str]:
    """Return the modules of this project that a module imports, also inside functions."""
    return ({name.rpartition(".")[0]} | names_imported(MODULES[name])) & MODULES.keys()


def in_a_circle(edges: Mapping[str, set[str]]) -> set[str]:
    """Return the modules that import themselves through other modules."""

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


def test_imports_have_no_cycle() -> None:
    edges = {name: imported(name) for name in MODULES}
    edges["squeezedrive"] = set()  # it imports each public name on first use
    assert not in_a_circle(edges)


def test_a_cycle_of_imports_is_found() -> None:
    edges = {"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": set()}
    assert in_a_circle(edges) == {"b", "c"}


FLOORS = {  # what a package may import from its layer; a package that is not listed may import all
    "pipeline.core": "core",
    "pipeline.tracking": "core tracking",
    "pipeline.stages": "core tracking stages",
    "pipeline.sources": "core sources",
    "pipeline.gps": "core gps",
    "pipeline.sinks": "core config sinks",
    "pipeline.preview": "core drawing preview",
    "engines.model": "model errors files",
    "engines.backends": "backends model errors files progress signals",
    "engines.datasets": "datasets errors files json_text progress yaml_text",
    "engines.evaluation": "evaluation datasets backends model errors files progress",
}


@pytest.mark.parametrize("room", FLOORS)
def test_lower_packages_do_not_import_higher_ones(room: str) -> None:
    layer = room.split(".")[0]
    inside = [module for module in MODULES if module.startswith(f"squeezedrive.{room}.")]
    assert inside
    found = (module.split(".") for one in inside for module in imported(one))
    known = {parts[2] for parts in found if parts[1] == layer and len(parts) > 2}
    assert known <= set(FLOORS[room].split())


def public_types(path: Path) -> Iterator[str]:
    """Yield the names of a file's classes and type aliases."""
    for node in ast.parse(path.read_text()).body:
        names = [node.name] if isinstance(node, ast.ClassDef) else []
        if isinstance(node, ast.Assign):
            names = [target.id for target in node.targets if isinstance(target, ast.Name)]
        yield from (name for name in names if re.fullmatch("[A-Z][A-Za-z0-9]*[a-z]\\w*", name))


def test_no_type_name_occurs_twice() -> None:
    places: dict[str, list[str]] = {}
    for path in SOURCES:
        for name in public_types(path):
            places.setdefault(name, []).append(str(path.relative_to(ROOT)))
    assert {"Pipeline", "Detections", "Draw"} <= places.keys()
    assert not {name: where for name, where in places.items() if len(where) > 1}


def test_every_module_can_be_imported() -> None:
    """Modules can be imported without any GPU package."""
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


def test_help_imports_no_heavy_package() -> None:
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


def test_no_file_is_longer_than_400_lines() -> None:
    for path in SOURCES:
        assert len(path.read_text().splitlines()) <= 400, path

"""Check every TensorRT name and signature in use with the real bindings of versions 10 and 11.

The bindings are a small package that any machine can install; the library that they load is not. To
import the bindings, this test builds a library that has the entry points and does nothing.
"""

import ast
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = [
    path
    for path in sorted((ROOT / "engines" / "backends" / "tensorrt").glob("*.py"))
    if "trt" in path.read_text()
]
WHEELS = Path(sys.prefix) / "tensorrt-bindings"  # `make test` downloads them to this folder
ENTRY_POINTS = (
    "createInferBuilder_INTERNAL",
    "createInferRuntime_INTERNAL",
    "createInferRefitter_INTERNAL",
    "createNvOnnxParser_INTERNAL",
    "createNvOnnxParserRefitter_INTERNAL",
    "getPluginRegistry",
    "getBuilderPluginRegistry",
    "getNvOnnxParserVersion",
    "initLibNvInferPlugins",
)
# Attributes of other objects in these files whose names also occur in TensorRT classes.
NOT_TENSORRT = {"dtype", "engine", "name"}


def names_in_use() -> set[str]:
    """Return each `trt.X.Y` and `self._trt.X.Y` of the sources, as "trt.X.Y"."""
    found = set()
    for source in SOURCES:
        for node in ast.walk(ast.parse(source.read_text())):
            path, inner = [], node
            while isinstance(inner, ast.Attribute):
                path.append(inner.attr)
                inner = inner.value
            names = [getattr(inner, "id", ""), *reversed(path)]
            while names and names[0] in ("self", "_trt", "trt"):
                before, *names = names
                if before != "self" and names:
                    found.add(".".join(["trt", *names]))
    return found


def attributes_in_use() -> set[str]:
    """Return the name of every attribute in the sources, of any object."""
    return {
        node.attr
        for source in SOURCES
        for node in ast.walk(ast.parse(source.read_text()))
        if isinstance(node, ast.Attribute)
    }


@pytest.fixture(scope="module", params=["10.16", "11.4"])
def report(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Run the project's code on the bindings of a version; return used and missing names."""
    version = request.param
    python = f"cp{sys.version_info.major}{sys.version_info.minor}"
    wheels = list(WHEELS.glob(f"tensorrt_cu1?_bindings-{version}.*-{python}-*.whl"))
    if not wheels:
        pytest.skip(f"the bindings of TensorRT {version} are not in {WHEELS} (see make test)")
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("needs a C compiler for the library that replaces TensorRT")
    folder = tmp_path_factory.mktemp("bindings")
    zipfile.ZipFile(wheels[0]).extractall(folder)
    source = folder / "library.c"
    source.write_text("".join(f"void *{name}(void) {{ return 0; }}\n" for name in ENTRY_POINTS))
    major = version.split(".")[0]
    for library in ("nvinfer", "nvinfer_plugin", "nvonnxparser"):
        output = folder / f"lib{library}.so.{major}"
        subprocess.run([compiler, "-shared", "-fPIC", "-o", output, source], check=True)
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.strict_tensorrt", *sorted(names_in_use())],
        cwd=ROOT,
        env={**os.environ, "LD_LIBRARY_PATH": str(folder), "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    if done.returncode != 0:
        pytest.fail(done.stderr[-1500:])
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["version"].startswith(version)
    return found


def test_every_name_in_use_exists(report: Any) -> None:
    assert report["missing"] == []


def test_the_run_calls_every_method_in_use(report: Any) -> None:
    """Check that the run calls every method; it raises an error for a wrong signature."""
    called = {name.split(".")[1] for name in report["used"]}
    constants = {name.split(".")[-1] for name in names_in_use()}
    in_use = attributes_in_use() & set(report["known"])
    assert in_use - called - constants - NOT_TENSORRT == set()
    assert {"execute_async_v3", "build_serialized_network", "get_error", "set_shape"} <= called


def test_reads_the_names_from_the_sources() -> None:
    assert {"trt.Runtime", "trt.MemoryPoolType.WORKSPACE", "trt.__version__"} <= names_in_use()
    assert "set_memory_pool_limit" in attributes_in_use()

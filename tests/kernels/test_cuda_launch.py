"""Caching, loading and launching kernels, with a fake driver in place of a GPU.

test_cuda_detect.py and test_cuda_preprocess.py run real machine code.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numba import cuda, types

from squeezedrive.kernels.cuda import launch
from squeezedrive.kernels.cuda.launch import Kernel, KernelRefused, copy_to_device
from tests.support.gpu import SIMULATED, needs_target

pytestmark = pytest.mark.skipif(SIMULATED, reason="the simulator launches kernels by itself")


class FakeDriver:
    """A fake `cuda.bindings.driver` that records the arguments of each launch."""

    def __init__(self) -> None:
        self.status = 0
        self.launches: list[tuple[Any, ...]] = []
        self.copies: list[tuple[int, ...]] = []

    def cuLaunchKernel(self, handle: int, *rest: int) -> tuple[int]:
        *shape, shared, stream, pointers, extra = rest
        assert (shared, extra) == (0, 0)
        self.launches.append((handle, tuple(shape), stream, self.read(pointers)))
        return (self.status,)

    def cuMemcpyHtoDAsync(self, *given: int) -> tuple[int]:
        self.copies.append(given)
        return (self.status,)

    def read(self, pointers: int) -> list[bytes]:
        addresses = (ctypes.c_uint64 * self.arguments).from_address(pointers)
        return [ctypes.string_at(address, 8) for address in addresses]

    arguments = 0


class FakeFunction:
    """A fake of what `cuda.jit` returns; each compilation takes the next item of `results`."""

    def __init__(self, *results: Any) -> None:
        self.results = list(results)
        self.folders: list[str] = []

    def enable_caching(self) -> None:
        config = pytest.importorskip("numba.cuda.core.config")
        self.folders.append(config.CACHE_DIR)

    def compile(self, signature: Any) -> Any:
        result = self.results.pop(0)
        if isinstance(result, Exception):
            raise result
        library = SimpleNamespace(get_cufunc=lambda: SimpleNamespace(handle=result))
        return SimpleNamespace(_codelibrary=library)


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeDriver:
    """Replace the driver, and move the user's cache into a folder of the test."""
    fake, found = FakeDriver(), launch.import_module
    monkeypatch.setattr(
        launch, "import_module", lambda name: fake if name.startswith("cuda.") else found(name)
    )
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return fake


def array_at(address: int, values: np.ndarray) -> Any:
    return SimpleNamespace(
        size=values.size, dtype=values.dtype, shape=values.shape, strides=values.strides,
        __cuda_array_interface__={"data": (address, False)},
    )  # fmt: skip


def test_launch_passes_arguments_in_the_drivers_layout(driver: FakeDriver) -> None:
    kernel = Kernel(
        FakeFunction(4711),
        *(types.Array(types.uint8, 2, "A"), types.int32, types.float32, types.int64),
        types.float16[::1],
    )
    picture = array_at(2**40, np.zeros((4, 6), np.uint8)[:, ::2])
    half = array_at(2**41, np.zeros(7, np.float16))
    driver.arguments = 9 + 3 + 7
    kernel.enqueue((3, 2, 1), (32, 8), 99, picture, np.int32(-2), np.float32(0.5), 2**33, half)
    ((handle, shape, stream, cells),) = driver.launches
    assert (handle, shape, stream) == (4711, (3, 2, 1, 32, 8, 1), 99)
    numbers = [int.from_bytes(cell, "little", signed=True) for cell in cells]
    assert numbers[:9] == [0, 0, 12, 1, 2**40, 4, 3, 6, 2]
    assert cells[9][:4] == np.int32(-2).tobytes()
    assert cells[10][:4] == np.float32(0.5).tobytes()
    assert numbers[11:] == [2**33, 0, 0, 7, 2, 2**41, 7, 2]


def test_raises_if_the_driver_refuses(driver: FakeDriver) -> None:
    kernel = Kernel(FakeFunction(1), types.int32)
    driver.arguments, driver.status = 1, 700
    with pytest.raises(RuntimeError, match="700"):
        kernel.enqueue((1, 1, 1), (1, 1), 0, 5)
    with pytest.raises(RuntimeError, match="700"):
        copy_to_device(array_at(64, np.zeros(2, np.float32)), np.zeros(2, np.float32), 0)


def test_copy_passes_the_address_of_the_host_array(driver: FakeDriver) -> None:
    host = np.zeros(5, np.float32)
    copy_to_device(array_at(64, host), host, 7)
    assert driver.copies == [(64, host.ctypes.data, 20, 7)]


def test_reports_a_kernel_that_cannot_be_compiled_in_one_line(driver: FakeDriver) -> None:
    with pytest.raises(KernelRefused, match=r"^ERROR_PTX_COMPILE$"):
        Kernel(FakeFunction(ValueError("ERROR_PTX_COMPILE\nptxas: unsupported .version")))
    with pytest.raises(KernelRefused, match=r"^ValueError$"):
        Kernel(FakeFunction(ValueError()))


def test_recompiles_if_cached_machine_code_was_cut_off(driver: FakeDriver) -> None:
    function = FakeFunction(EOFError(), 12)
    Kernel(function)
    assert function.results == []
    assert not Path(function.folders[0]).exists()


def test_each_version_of_the_compilers_has_its_own_folder(
    driver: FakeDriver, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folders: list[str] = []
    for versions in ({}, {}, {"nvidia-nvvm": "1.0"}, {"nvidia-nvvm": "2.0"}):

        def version(name: str, versions: dict[str, str] = versions) -> str:
            if name not in versions:
                raise launch.PackageNotFoundError
            return versions[name]

        monkeypatch.setattr(launch, "version", version)
        function = FakeFunction(1, 1)
        Kernel(function)
        Kernel(function)
        assert len(function.folders) == 1
        folders += function.folders
    assert folders[0] == folders[1]
    assert len(set(folders)) == 3
    assert all(Path(folder).is_relative_to(tmp_path / "squeezedrive") for folder in folders)
    config = pytest.importorskip("numba.cuda.core.config")
    assert config.CACHE_DIR not in folders


def test_does_not_cache_if_the_folder_cannot_be_made(driver: FakeDriver, tmp_path: Path) -> None:
    (tmp_path / "squeezedrive").write_text("a file, not a folder")
    function = FakeFunction(1)
    Kernel(function)
    assert function.folders == []


def doubled() -> Callable[..., Any]:
    @cuda.jit  # type: ignore[untyped-decorator]
    def kernel(values: Any, factor: Any) -> None:
        i = cuda.grid(1)
        if i < values.shape[0]:
            values[i] *= factor

    return kernel  # type: ignore[no-any-return]


@pytest.mark.gpu
@needs_target
def test_second_start_loads_machine_code_from_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for loaded in (0, 1):
        function: Any = doubled()
        kernel = Kernel(function, types.float32[::1], types.float32)
        assert sum(function.stats.cache_hits.values()) == loaded
        values = cuda.to_device(np.arange(40, dtype=np.float32))
        kernel.enqueue((2, 1, 1), (32, 1), 0, values, np.float32(3))
        np.testing.assert_array_equal(values.copy_to_host(), 3 * np.arange(40))
    assert [str(warning.message) for warning in recwarn] == []

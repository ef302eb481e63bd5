"""The CUDA kernels compiled for real GPUs, on machines without one.

The tests search the PTX for mistakes that the simulator hides: arithmetic in double precision,
which video GPUs compute at a 64th of the speed, and arrays in local memory.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from numba import cuda, types

from squeezedrive.kernels.cuda import draw, preprocess, select

dispatcher = pytest.importorskip("numba.cuda.dispatcher")
nvjitlink = pytest.importorskip("cuda.bindings.nvjitlink", exc_type=ImportError)

ARCHITECTURES = [(7, 5), (8, 7), (9, 0), (12, 0)]
# One case in single precision is enough: it differs only in the values loaded and stored.
CASES = [(cc, "float16") for cc in ARCHITECTURES] + [((9, 0), "float32")]
u1, i4, i8, u8, f2, f4 = (
    *(types.uint8, types.int32, types.int64),
    *(types.uint64, types.float16, types.float32),
)


def resize(dtype: Any, *planes: Any) -> Any:
    return types.void(*planes, i4[:, ::1], i4[:, ::1], f4[:, ::1], f4, i4, dtype[:, :, :, ::1])


def signatures(dtype: Any) -> dict[str, tuple[Any, int, Any]]:
    """Return each kernel, its threads, and its argument types for a network of this type.

    In half precision, the pictures are arrays with arbitrary strides.
    """
    layout = "A" if dtype is f2 else "C"
    picture, plane = types.Array(u1, 4, layout), types.Array(u1, 3, layout)
    scoring = (f4[::1], u8[:, ::1], i4[::1])
    decoding = (dtype[::1], f4[:, ::1], i4[:, ::1], i8, f4, f4, f4, f4, f4[::1], i8, u8[:, ::1])
    pixels = preprocess.BLOCK[0] * preprocess.BLOCK[1]
    return {
        "draw": (
            *(draw.draw_nv12, draw.BLOCK[0] * draw.BLOCK[1]),
            types.void(*(types.Array(u1, 3, "A"),) * 2, i4, i4, i4[:, ::1], u1[::1], u1[::1]),
        ),
        "bgr": (preprocess.resize_bgr, pixels, resize(dtype, picture)),
        "nv12": (preprocess.resize_nv12, pixels, resize(dtype, plane, plane, f4[::1])),
        "score": (
            *(select.score_anchors, select.SCORE_BLOCK),
            types.void(dtype[::1], i4[:, ::1], i8, *scoring),
        ),
        "select": (
            *(select.select_boxes, select.SELECT_BLOCK),
            types.void(*decoding, i4[::1], f4[:, ::1]),
        ),
    }


@pytest.fixture
def pretend(monkeypatch: pytest.MonkeyPatch) -> Callable[[tuple[int, int]], None]:
    """Pretend that this machine has a GPU of a given architecture; code is compiled for it."""

    def there_is(cc: tuple[int, int]) -> None:
        device = SimpleNamespace(compute_capability=cc)
        monkeypatch.setattr(dispatcher, "get_current_device", lambda: device)

    return there_is


def compile_ptx(kernel: Any, signature: Any, architecture: tuple[int, int]) -> str:
    ptx, _ = cuda.compile(
        kernel.py_func, signature, cc=architecture, device=False, abi="numba", output="ptx"
    )
    return str(ptx)


def resources(ptx: str, architecture: tuple[int, int]) -> str:
    """Compile PTX to machine code and return the assembler's report."""
    options = [f"-arch=sm_{architecture[0]}{architecture[1]}", "-verbose", "-Xptxas=-v"]
    handle = nvjitlink.create(len(options), options)
    try:
        data = ptx.encode()
        nvjitlink.add_data(handle, nvjitlink.InputType.PTX, data, len(data), "kernel")
        nvjitlink.complete(handle)
        log = bytearray(nvjitlink.get_info_log_size(handle))
        nvjitlink.get_info_log(handle, log)
    finally:
        nvjitlink.destroy(handle)
    return log.decode(errors="replace")


@pytest.mark.parametrize("name", sorted(signatures(f4)))
@pytest.mark.parametrize(
    ("architecture", "dtype"), CASES, ids=[f"sm_{cc[0]}{cc[1]}-{dtype}" for cc, dtype in CASES]
)
def test_every_kernel_compiles_without_doubles_and_spills(
    name: str, dtype: str, architecture: tuple[int, int], pretend: Any
) -> None:
    pretend(architecture)
    kernel, threads, signature = signatures({"float16": f2, "float32": f4}[dtype])[name]
    ptx = compile_ptx(kernel, signature, architecture)
    assert f".target sm_{architecture[0]}{architecture[1]}" in ptx
    assert not re.findall(r".*\.f64.*", ptx)
    assert not re.findall(r".*\.local.*", ptx)
    log = resources(ptx, architecture)
    assert "0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads" in log
    (registers,) = re.findall(r"Used (\d+) registers", log)
    assert int(registers) * threads <= 65536  # a block must fit into the registers of an SM


def test_search_finds_doubles_and_local_arrays(pretend: Any) -> None:
    def kernel(x: Any, i: Any) -> None:
        array = cuda.local.array(4, types.float32)
        for k in range(4):
            array[k] = x[k]
        x[0] = array[i] * 0.1

    pretend((9, 0))
    ptx = compile_ptx(SimpleNamespace(py_func=kernel), types.void(f4[::1], i8), (9, 0))
    assert re.findall(r".*\.f64.*", ptx)
    assert re.findall(r".*\.local.*", ptx)

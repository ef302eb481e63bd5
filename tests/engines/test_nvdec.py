"""Decoding with NVDEC, using a fake PyNvVideoCodec 2.2 on a fake GPU.

`FakeNvc` has the names and the behaviour of PyNvVideoCodec 2.2.4: frames come some packets late, in
buffers that are reused, and their views have padded rows.
"""

from __future__ import annotations

import builtins
import ctypes
import sys
import weakref
from functools import partial
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from squeezedrive.engines.backends.cuda.nvdec import NvDecoder, open_nvdec
from squeezedrive.engines.backends.cuda.picture_memory import PictureMemory
from squeezedrive.engines.backends.video_decoder import DecoderRefused
from squeezedrive.engines.errors import GpuMemoryError
from squeezedrive.kernels.cuda.launch import KernelRefused
from squeezedrive.kernels.overlay import Overlay
from tests.support.cuda_rig import in_thread
from tests.support.fake_cuda import fake_gpu
from tests.support.fake_driver import DriverError, FakeDriver

WIDTH, HEIGHT, PITCH = 6, 4, 8


class FakeDecoder:
    """A decoder that shows a packet's first byte in all pixels of a frame, two packets later.

    The frames use two buffers in turn.
    """

    def __init__(self, memory: dict[int, NDArray[np.uint8]], **options: Any) -> None:
        self.options = options
        self.memory = memory
        self.waiting: list[tuple[int, int]] = []
        self.format = FakeNvc.Pixel_Format.NV12
        self.fail = False
        for address in (1000, 2000):
            memory[address] = np.zeros(HEIGHT * PITCH, np.uint8)
            memory[address + 500] = np.zeros(HEIGHT // 2 * PITCH, np.uint8)
        self.shown = 0

    def Decode(self, packet: Any) -> list[Any]:
        if self.fail:
            raise FakeNvc.PyNvVCException("cuvidDecodePicture")
        if packet.bsl:
            data = ctypes.string_at(packet.bsl_data, packet.bsl)
            self.waiting.append((data[0], packet.pts))
        keep = 2 if packet.bsl else 0
        ready, self.waiting = (
            self.waiting[: len(self.waiting) - keep],
            self.waiting[len(self.waiting) - keep :],
        )
        return [self._frame(*item) for item in ready]

    def _frame(self, value: int, pts: int) -> Any:
        address = 1000 * (1 + self.shown % 2)
        self.shown += 1
        self.memory[address][:] = value
        self.memory[address + 500][:] = 100 + value
        shapes = ((HEIGHT, WIDTH, 1), (PITCH, 1, 1)), ((HEIGHT // 2, WIDTH // 2, 2), (PITCH, 2, 1))
        views = [
            SimpleNamespace(
                __cuda_array_interface__={
                    "shape": shape,
                    "strides": strides,
                    "typestr": "|u1",
                    "data": (address + offset, False),
                    "version": 3,
                }
            )
            for (shape, strides), offset in zip(shapes, (0, 500), strict=True)
        ]
        return SimpleNamespace(format=self.format, getPTS=lambda: pts, cuda=lambda: views)


class FakeNvc:
    class PyNvVCException(Exception):
        pass

    class PyNvVCExceptionUnsupported(Exception):
        pass

    class PacketData:
        bsl = 0
        bsl_data = 0
        pts = 0

    cudaVideoCodec = SimpleNamespace(H264="h264!", HEVC="hevc!")
    Pixel_Format = SimpleNamespace(NV12=SimpleNamespace(name="NV12"))

    def __init__(self, driver: FakeDriver) -> None:
        self.made: list[FakeDecoder] = []
        self.driver = driver

    def CreateDecoder(self, **options: Any) -> FakeDecoder:
        self.made.append(FakeDecoder(self.driver.memory, **options))
        return self.made[-1]


def to_bgr(luma: NDArray[np.uint8], chroma: NDArray[np.uint8]) -> NDArray[np.uint8]:
    assert (luma.shape, chroma.shape) == ((HEIGHT, WIDTH), (HEIGHT // 2, WIDTH))
    return np.stack([luma, chroma.repeat(2, 0), luma], axis=-1)


class Nvdec:
    """A fake GPU with an open decoder."""

    def __init__(self) -> None:
        self.driver, self.gpu = fake_gpu()
        self.nvc = FakeNvc(self.driver)
        self.decoder = NvDecoder("hevc", "bt709", to_bgr, self.nvc, self.gpu)

    def forget_buffers(self) -> None:
        """Remove the decoder's own buffers, so that `driver.clean` does not count them."""
        for address in (1000, 1500, 2000, 2500):
            del self.driver.memory[address]


@pytest.fixture
def nvdec() -> Nvdec:
    return Nvdec()


def test_decoder_uses_the_primary_context_and_its_own_stream(nvdec: Nvdec) -> None:
    (stream, _) = nvdec.driver.work
    assert nvdec.nvc.made[0].options == {
        "gpuid": 0,
        "codec": "hevc!",
        "cudacontext": 55,
        "cudastream": stream,
        "usedevicememory": True,
    }


def test_pictures_keep_pixels_and_times_although_buffers_are_reused(nvdec: Nvdec) -> None:
    decoder, pictures = nvdec.decoder, []
    for number in range(7):
        pictures += decoder.decode(bytes([number, 1, 2]), pts=1000 - number)
    assert len(pictures) == 5
    pictures += decoder.flush()
    assert [pts for pts, _ in pictures] == [1000 - number for number in range(7)]
    for number, (_, picture) in enumerate(pictures):
        assert picture.shape == (HEIGHT, WIDTH, 3)
        assert picture.matrix == "bt709"
        assert picture.luma.shape == (1, HEIGHT, PITCH)
        assert picture.chroma.shape == (1, HEIGHT // 2, PITCH)
        image = picture.to_host()
        assert (image[..., 0] == number).all()
        assert (image[..., 1] == 100 + number).all()


def test_reuses_the_memory_of_released_pictures(nvdec: Nvdec) -> None:
    decoder, driver = nvdec.decoder, nvdec.driver
    before = len(driver.memory)
    for number in range(50):
        decoder.decode(bytes([number]), number)
    assert len(driver.memory) == before + 2  # luma and chroma of the only picture in use
    kept = [decoder.decode(bytes([number]), number) for number in range(3)]
    assert len({id(pictures[0][1].luma) for pictures in kept}) == 3
    decoder.close()
    decoder.close()


def test_pictures_may_outlive_their_decoder_and_be_released_in_any_thread(nvdec: Nvdec) -> None:
    decoder, driver = nvdec.decoder, nvdec.driver
    pictures = [decoder.decode(bytes([number]), number) for number in range(7)]
    decoder.close()
    ((_, picture),) = pictures[2]
    assert (picture.to_host()[..., 0] == 0).all()
    nvdec.forget_buffers()
    assert len(driver.memory) == 2 * 5
    del picture
    in_thread(pictures.clear)
    assert driver.clean


def test_copies_pictures_to_the_host_through_pinned_memory_on_a_stream(nvdec: Nvdec) -> None:
    for number in range(3):
        pictures = nvdec.decoder.decode(bytes([number]), number)
    before, pinned = len(nvdec.driver.log), nvdec.driver.alive.copy()
    ((_, picture),) = pictures
    first = picture.to_host()
    _, stream = nvdec.driver.work
    copies = [("d2h", stream), ("d2h", stream), ("event", stream)]
    assert nvdec.driver.log[before:] == copies
    kept = first.copy()
    assert len(nvdec.driver.alive - pinned) == 1
    nvdec.driver.memory[next(reversed(nvdec.driver.memory))][:] = 200
    picture.to_host()  # this copy reuses the pinned memory
    assert len(nvdec.driver.alive - pinned) == 1
    np.testing.assert_array_equal(first, kept)


class FakeKernel:
    """A fake `kernels.cuda.draw.DrawKernel` that draws opaque rectangles and text, only in luma."""

    def __init__(self, driver: FakeDriver) -> None:
        self.driver = driver

    def enqueue(
        self, source: Any, width: int, drawing: tuple[int, Any, Any], target: Any, stream: int
    ) -> None:
        (luma, chroma), (count, steps, coverage) = source, drawing

        def draw() -> None:
            drawn = luma[0, :, :width].copy()
            for x1, y1, x2, y2, _, text, y, *_ in steps[:count]:
                drawn[y1:y2, x1:x2] = y
                if text >= 0:
                    drawn[y1:y2, x1:x2] += coverage[text]
            parts = drawn, chroma[0, :, 0:width:2], chroma[0, :, 1:width:2]
            target[:] = np.concatenate([part.reshape(-1) for part in parts])

        self.driver.enqueue("draw", stream, draw)


def test_pictures_are_drawn_over_on_their_way_to_the_host(
    nvdec: Nvdec, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = nvdec.driver
    monkeypatch.setattr(
        "squeezedrive.kernels.cuda.draw.DrawKernel", lambda: FakeKernel(nvdec.driver)
    )
    pictures = [nvdec.decoder.decode(bytes([number]), number) for number in range(4)]
    (_, first), (_, second) = pictures[2][0], pictures[3][0]
    kept = first.to_planes(Overlay())
    assert [plane.shape for plane in kept] == [(HEIGHT, WIDTH), (2, 3), (2, 3)]
    expected = [plane.copy() for plane in kept]
    assert (kept[0] == 0).all()
    assert (kept[1] == 100).all()

    before, overlay = len(driver.log), Overlay()
    overlay.fill((1, 1, 3, 2), (200, 0, 0))
    overlay.write((3, 2, 5, 4), (50, 0, 0), 1.0, (0, 0, 0), np.full((2, 2), 7, np.uint8))
    luma, cb, _ = in_thread(partial(second.to_planes, overlay))
    assert luma.tolist() == [
        [1, 1, 1, 1, 1, 1], [1, 200, 200, 1, 1, 1], [1, 1, 1, 57, 57, 1], [1, 1, 1, 57, 57, 1],
    ]  # fmt: skip
    assert (cb == 101).all()
    assert [step for step, _ in driver.log[before:]] == ["h2d", "h2d", "draw", "d2h", "event"]
    for plane, as_before in zip(kept, expected, strict=True):
        np.testing.assert_array_equal(plane, as_before)  # despite reused pinned memory
    assert (second.to_host()[..., 0] == 1).all()  # drawing left the picture unchanged

    for number in range(100):  # more steps than before
        overlay.fill((number, 0, number + 1, 1), (9, 0, 0))
    assert (second.to_planes(overlay)[0][0] == 9).all()
    nvdec.forget_buffers()
    nvdec.decoder.close()
    pictures.clear()
    del first, second
    assert driver.clean


def test_draws_again_after_memory_was_short(nvdec: Nvdec, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = nvdec.driver
    monkeypatch.setattr("squeezedrive.kernels.cuda.draw.DrawKernel", lambda: FakeKernel(driver))
    pictures = [nvdec.decoder.decode(bytes([number]), number) for number in range(3)]
    ((_, picture),) = pictures[2]
    driver.fail["mem_alloc"] = DriverError("out of memory")
    with pytest.raises(GpuMemoryError):
        picture.to_planes(Overlay())
    driver.fail.clear()
    assert (picture.to_planes(Overlay())[0] == 0).all()


def test_planes_of_another_size_are_not_used_again() -> None:
    driver, gpu = fake_gpu()
    memory = PictureMemory(gpu)
    small = memory.take((4, 8), (2, 8))
    memory.give_back(small)
    large = memory.take((8, 8), (4, 8))
    assert sorted(block.size for block in driver.memory.values()) == [32, 64]
    memory.close()
    memory.give_back(large)
    assert driver.clean


def test_failed_allocation_of_a_picture_leaves_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    driver, gpu = fake_gpu()
    memory = PictureMemory(gpu)
    allocate, calls = driver.mem_alloc, iter([True, False])

    def once(size: int) -> Any:
        if next(calls):
            return allocate(size)
        raise DriverError("out of memory")

    monkeypatch.setattr(driver, "mem_alloc", once)
    with pytest.raises(GpuMemoryError):
        memory.take((4, 8), (2, 8))
    memory.close()
    assert driver.clean


def test_releases_nothing_on_a_lost_gpu(nvdec: Nvdec) -> None:
    pictures = [nvdec.decoder.decode(bytes([number]), number) for number in range(3)]
    nvdec.gpu.lost = True
    nvdec.driver.fail["free"] = DriverError("hangs")
    nvdec.decoder.close()
    in_thread(pictures.clear)
    assert nvdec.driver.leaked == 0
    decoder = weakref.ref(nvdec.nvc.made.pop())
    assert decoder() is not None  # kept alive: a destructor would hang


def test_rejects_videos_that_nvdec_cannot_decode(nvdec: Nvdec) -> None:
    nvc, decoder = nvdec.nvc, nvdec.decoder
    nvc.made[0].format = SimpleNamespace(name="P016")
    decoder.decode(b"a", 0)
    decoder.decode(b"b", 1)
    with pytest.raises(DecoderRefused, match="gives P016 pictures, expected NV12"):
        decoder.decode(b"c", 2)
    nvc.made[0].fail = True
    with pytest.raises(DecoderRefused, match="NVDEC: cuvidDecodePicture"):
        decoder.decode(b"d", 3)

    def unsupported(**options: Any) -> Any:
        raise nvc.PyNvVCExceptionUnsupported("codec not supported on this GPU")

    nvc.CreateDecoder = unsupported  # type: ignore[method-assign]
    decoder.close()
    with pytest.raises(DecoderRefused, match="codec not supported on this GPU"):
        NvDecoder("h264", "bt601", to_bgr, nvc, nvdec.gpu)
    nvdec.forget_buffers()
    assert nvdec.driver.clean


def test_names_the_missing_package_pynvvideocodec(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PyNvVideoCodec", None)
    with pytest.raises(DecoderRefused, match=r"not installed \(pip install PyNvVideoCodec\)"):
        open_nvdec("h264", "bt709", to_bgr)


def test_refuses_if_what_draws_over_pictures_cannot_be_loaded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    driver, gpu = fake_gpu()
    nvc: Any = FakeNvc(driver)

    def refuse() -> None:
        driver.call("DrawKernel")  # fails without a current context
        raise KernelRefused("ERROR_PTX_COMPILE")

    monkeypatch.setitem(sys.modules, "PyNvVideoCodec", nvc)
    monkeypatch.setattr("squeezedrive.engines.backends.cuda.nvdec.open_gpu", lambda: gpu)
    monkeypatch.setattr("squeezedrive.kernels.cuda.draw.DrawKernel", refuse)
    with pytest.raises(DecoderRefused, match="draws over pictures: ERROR_PTX_COMPILE"):
        open_nvdec("h264", "bt709", to_bgr)
    assert nvc.made == []
    assert driver.clean


def test_reports_missing_libraries_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    real_import = builtins.__import__

    def no_libraries(name: str, *arguments: Any, **options: Any) -> ModuleType:
        if name == "PyNvVideoCodec":
            raise RuntimeError("libnvidia-encode.so.1: cannot open\n\n=== TROUBLESHOOTING ===")
        return real_import(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", no_libraries)
    with pytest.raises(DecoderRefused) as refusal:
        open_nvdec("h264", "bt709", to_bgr)
    assert str(refusal.value) == "libnvidia-encode.so.1: cannot open"

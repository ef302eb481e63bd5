"""Decoding with NVDEC, against a module that behaves as PyNvVideoCodec 2.2 does, on a fake GPU.

`FakeNvc` has the names and the ways of PyNvVideoCodec 2.2.4: frames come some packets late and in
buffers that are used again, with views that carry a pitch.
"""

from __future__ import annotations

import builtins
import ctypes
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from squeezedrive.engines.backends.cuda.nvdec import NvDecoder, open_nvdec
from squeezedrive.engines.backends.cuda.picture_memory import PictureMemory
from squeezedrive.engines.backends.video_decoder import DecoderRefused
from squeezedrive.engines.errors import GpuMemoryError
from tests.support.cuda_rig import in_thread
from tests.support.fake_cuda import fake_gpu
from tests.support.fake_driver import DriverError, FakeDriver

WIDTH, HEIGHT, PITCH = 6, 4, 8


class FakeDecoder:
    """Shows a packet's first byte in all pixels, two packets later, in one of two buffers."""

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
    """A fake GPU with a decoder open on it."""

    def __init__(self) -> None:
        self.driver, self.gpu = fake_gpu()
        self.nvc = FakeNvc(self.driver)
        self.decoder = NvDecoder("hevc", "bt709", to_bgr, self.nvc, self.gpu)

    def forget_buffers(self) -> None:
        """Let go of the decoder's own buffers, of which `driver.clean` need not know."""
        for address in (1000, 1500, 2000, 2500):
            del self.driver.memory[address]


@pytest.fixture
def nvdec() -> Nvdec:
    return Nvdec()


def test_the_decoder_works_in_the_primary_context_and_on_a_stream_of_its_own(nvdec: Nvdec) -> None:
    (stream, _) = nvdec.driver.work
    assert nvdec.nvc.made[0].options == {
        "gpuid": 0,
        "codec": "hevc!",
        "cudacontext": 55,
        "cudastream": stream,
        "usedevicememory": True,
    }


def test_pictures_keep_their_pixels_and_times_though_buffers_are_used_again(nvdec: Nvdec) -> None:
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


def test_memory_of_forgotten_pictures_is_used_again(nvdec: Nvdec) -> None:
    decoder, driver = nvdec.decoder, nvdec.driver
    before = len(driver.memory)
    for number in range(50):
        decoder.decode(bytes([number]), number)
    assert len(driver.memory) == before + 2  # luma and chroma of the one picture alive at a time
    kept = [decoder.decode(bytes([number]), number) for number in range(3)]
    assert len({id(pictures[0][1].luma) for pictures in kept}) == 3
    decoder.close()
    decoder.close()


def test_pictures_that_outlive_their_decoder_are_released_in_any_thread(nvdec: Nvdec) -> None:
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


def test_pictures_come_to_the_host_through_pinned_memory_on_a_stream(nvdec: Nvdec) -> None:
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
    picture.to_host()  # uses the pinned memory again
    assert len(nvdec.driver.alive - pinned) == 1
    np.testing.assert_array_equal(first, kept)


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


def test_no_room_for_a_picture_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_on_a_lost_gpu_nothing_is_released(nvdec: Nvdec) -> None:
    pictures = [nvdec.decoder.decode(bytes([number]), number) for number in range(3)]
    nvdec.gpu.lost = True
    nvdec.driver.fail["free"] = DriverError("hangs")
    nvdec.decoder.close()
    in_thread(pictures.clear)
    assert nvdec.driver.leaked == 0


def test_what_nvdec_cannot_do_is_refused(nvdec: Nvdec) -> None:
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


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PyNvVideoCodec", None)
    with pytest.raises(DecoderRefused, match=r"not installed \(pip install PyNvVideoCodec\)"):
        open_nvdec("h264", "bt709", to_bgr)


def test_missing_libraries_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    real_import = builtins.__import__

    def no_libraries(name: str, *arguments: Any, **options: Any) -> ModuleType:
        if name == "PyNvVideoCodec":
            raise RuntimeError("libnvidia-encode.so.1: cannot open\n\n=== TROUBLESHOOTING ===")
        return real_import(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", no_libraries)
    with pytest.raises(DecoderRefused) as refusal:
        open_nvdec("h264", "bt709", to_bgr)
    assert str(refusal.value) == "libnvidia-encode.so.1: cannot open"

"""Decoding with NVDEC, against modules that behave as PyNvVideoCodec 2.2 and Numba-CUDA do.

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
from squeezedrive.engines.backends.video_decoder import DecoderRefused

WIDTH, HEIGHT, PITCH = 6, 4, 8
MEMORY: dict[int, NDArray[np.uint8]] = {}  # what lies at an address of the fake device


class FakeArray:
    """A device array: what the host may not touch but by copies."""

    def __init__(self, host: NDArray[np.uint8]) -> None:
        self._host = host
        self.shape = host.shape

    def copy_to_device(self, source: FakeArray, stream: Any) -> None:
        assert source.shape == self.shape
        stream.pending.append((self._host, source._host))

    def copy_to_host(self) -> NDArray[np.uint8]:
        return self._host.copy()


class FakeStream:
    """Copies when it is waited for, and not before."""

    def __init__(self) -> None:
        self.pending: list[tuple[NDArray[np.uint8], NDArray[np.uint8]]] = []

    def __int__(self) -> int:
        return 77

    def synchronize(self) -> None:
        for target, source in self.pending:
            target[:] = source
        self.pending.clear()


class FakeCuda:
    def __init__(self) -> None:
        self.allocations = 0

    def current_context(self) -> Any:
        return SimpleNamespace(handle=55, device=SimpleNamespace(id=0))

    def stream(self) -> FakeStream:
        return FakeStream()

    def device_array(self, shape: tuple[int, ...], dtype: Any) -> FakeArray:
        self.allocations += 1
        return FakeArray(np.zeros(shape, dtype))

    def from_cuda_array_interface(self, desc: dict[str, Any], owner: Any) -> FakeArray:
        assert desc["typestr"] == "|u1"
        return FakeArray(MEMORY[desc["data"][0]].reshape(desc["shape"]))


class FakeDecoder:
    """Shows a packet's first byte in all pixels, two packets later, in one of two buffers."""

    def __init__(self, **options: Any) -> None:
        self.options = options
        self.waiting: list[tuple[int, int]] = []
        self.format = FakeNvc.Pixel_Format.NV12
        self.fail = False
        for address in (1000, 2000):
            MEMORY[address] = np.zeros((HEIGHT, PITCH), np.uint8)
            MEMORY[address + 500] = np.zeros((HEIGHT // 2, PITCH), np.uint8)
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
        MEMORY[address][:] = value
        MEMORY[address + 500][:] = 100 + value
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

    def __init__(self) -> None:
        self.made: list[FakeDecoder] = []

    def CreateDecoder(self, **options: Any) -> FakeDecoder:
        self.made.append(FakeDecoder(**options))
        return self.made[-1]


def to_bgr(luma: NDArray[np.uint8], chroma: NDArray[np.uint8]) -> NDArray[np.uint8]:
    assert (luma.shape, chroma.shape) == ((HEIGHT, WIDTH), (HEIGHT // 2, WIDTH))
    return np.stack([luma, chroma.repeat(2, 0), luma], axis=-1)


@pytest.fixture
def nvc() -> FakeNvc:
    return FakeNvc()


@pytest.fixture
def cuda() -> FakeCuda:
    return FakeCuda()


@pytest.fixture
def decoder(nvc: FakeNvc, cuda: FakeCuda) -> NvDecoder:
    return NvDecoder("hevc", "bt709", to_bgr, nvc, cuda)


def test_the_decoder_works_in_the_current_context_and_on_a_stream_of_its_own(
    nvc: FakeNvc, decoder: NvDecoder
) -> None:
    assert nvc.made[0].options == {
        "gpuid": 0,
        "codec": "hevc!",
        "cudacontext": 55,
        "cudastream": 77,
        "usedevicememory": True,
    }


def test_pictures_keep_their_pixels_and_times_though_buffers_are_used_again(
    decoder: NvDecoder,
) -> None:
    pictures = []
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


def test_memory_of_forgotten_pictures_is_used_again(cuda: FakeCuda, decoder: NvDecoder) -> None:
    for number in range(50):
        decoder.decode(bytes([number]), number)
    assert cuda.allocations == 2  # luma and chroma of the one picture alive at a time
    kept = [decoder.decode(bytes([number]), number) for number in range(3)]
    assert len({id(pictures[0][1].luma) for pictures in kept}) == 3
    decoder.close()
    decoder.close()


def test_what_nvdec_cannot_do_is_refused(nvc: FakeNvc, cuda: FakeCuda, decoder: NvDecoder) -> None:
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
    with pytest.raises(DecoderRefused, match="codec not supported on this GPU"):
        NvDecoder("h264", "bt601", to_bgr, nvc, cuda)


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

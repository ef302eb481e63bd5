"""NVDEC, the video decoder of NVIDIA GPUs, through PyNvVideoCodec 2.2."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from numpy.typing import NDArray

from squeezedrive.engines.backends.cuda.context import GpuContext, open_gpu
from squeezedrive.engines.backends.cuda.picture_memory import PictureMemory, Planes
from squeezedrive.engines.backends.video_decoder import (
    Codec,
    ColourMatrix,
    DecoderRefused,
    Plane,
    ToBgr,
)
from squeezedrive.kernels.overlay import Overlay


def open_nvdec(codec: Codec, matrix: ColourMatrix, to_bgr: ToBgr) -> NvDecoder:
    """Open a decoder on the GPU that this process computes on; an `OpenDecoder`.

    For a back end that runs on the GPU: without a driver, PyNvVideoCodec ends the process.

    Raises
    ------
    DecoderRefused
        If PyNvVideoCodec or the libraries it needs are missing, or the kernel that draws over its
        pictures cannot be compiled or loaded.
    """
    from squeezedrive.kernels.cuda.draw import DrawKernel
    from squeezedrive.kernels.cuda.launch import KernelRefused

    try:
        import PyNvVideoCodec
    except ImportError:
        raise DecoderRefused(
            "Python package PyNvVideoCodec is not installed (pip install PyNvVideoCodec)"
        ) from None
    except RuntimeError as error:  # what it raises for a missing libnvidia-encode.so
        raise DecoderRefused(str(error).splitlines()[0]) from None
    gpu = open_gpu()
    try:
        with gpu.current():
            DrawKernel()  # compiles now what the first picture to be drawn over would wait for
    except KernelRefused as error:
        raise DecoderRefused(f"the kernel that draws over pictures: {error}") from None
    return NvDecoder(codec, matrix, to_bgr, PyNvVideoCodec, gpu)


class NvPicture:
    """A picture that NVDEC has decoded, in memory of its own.

    Attributes
    ----------
    shape : tuple of int
        Height, width, 3.
    matrix : str
        Colour matrix: "bt601" or "bt709".
    luma, chroma : Numba device arrays, uint8 (1, height, pitch), (1, (height + 1) // 2, pitch)
        The NV12 planes for `kernels.cuda.preprocess`. They are complete: no stream has to be
        waited for.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        matrix: ColourMatrix,
        planes: Planes,
        memory: PictureMemory,
        to_bgr: ToBgr,
    ) -> None:
        self.shape = shape
        self.matrix: ColourMatrix = matrix
        self.luma, self.chroma = planes.luma, planes.chroma
        self._planes = planes
        self._memory = memory
        self._to_bgr = to_bgr

    def __del__(self) -> None:
        self._memory.give_back(self._planes)

    def to_host(self) -> NDArray[np.uint8]:
        """Copy the picture to the host, as BGR (height, width, 3)."""
        return self._memory.fetch(self._planes, self.shape[1], self._to_bgr)

    def to_planes(self, overlay: Overlay) -> tuple[Plane, Plane, Plane]:
        """Copy the picture to the host as luma, Cb and Cr, with an overlay drawn over it."""
        height, width, _ = self.shape
        packed = self._memory.draw(self._planes, width, overlay)
        luma, cb, cr = np.split(packed, [height * width, height * width * 5 // 4])
        half = height // 2, width // 2
        return luma.reshape(height, width), cb.reshape(half), cr.reshape(half)


class NvDecoder:
    """Decodes one track of H.264 or H.265, 8 bits, 4:2:0.

    NVDEC uses its few buffers again, so each picture is copied within the GPU, on the decoder's
    stream, before the next packet goes in. The memory of the copies comes from a pool, and returns
    to it with the last reference to the picture.

    To be used by one thread at a time. `nvc` is the module PyNvVideoCodec.
    """

    def __init__(
        self, codec: Codec, matrix: ColourMatrix, to_bgr: ToBgr, nvc: Any, gpu: GpuContext
    ) -> None:
        self._nvc = nvc
        self._gpu = gpu
        self._errors = (nvc.PyNvVCException, nvc.PyNvVCExceptionUnsupported, RuntimeError)
        self._matrix: ColourMatrix = matrix
        self._to_bgr = to_bgr
        self._memory = PictureMemory(gpu)
        try:
            self._decoder = nvc.CreateDecoder(
                gpuid=gpu.ordinal,
                codec=getattr(nvc.cudaVideoCodec, codec.upper()),
                cudacontext=gpu.handle,
                cudastream=self._memory.stream,
                usedevicememory=True,
            )
        except self._errors as error:
            self._memory.close()
            raise DecoderRefused(f"NVDEC: {error}") from None

    def decode(self, data: bytes, pts: int) -> list[tuple[int, NvPicture]]:
        """Decode a packet; see `engines.backends.video_decoder.VideoDecoder`."""
        buffer = ctypes.create_string_buffer(data, len(data))
        packet = self._nvc.PacketData()
        packet.bsl_data = ctypes.addressof(buffer)
        packet.bsl = len(data)
        packet.pts = pts
        return self._pictures(packet)

    def flush(self) -> list[tuple[int, NvPicture]]:
        """Return the remaining pictures after the last packet."""
        return self._pictures(self._nvc.PacketData())  # an empty one means the end

    def close(self) -> None:
        """Release the decoder and the memory that no picture uses."""
        decoder, self._decoder = self._decoder, None
        if self._gpu.lost and decoder is not None:  # releasing it may hang
            self._gpu.keep_forever(decoder)
        self._memory.close()

    def _pictures(self, packet: Any) -> list[tuple[int, NvPicture]]:
        try:
            decoded = self._decoder.Decode(packet)
        except self._errors as error:
            raise DecoderRefused(f"NVDEC: {error}") from None
        return [(frame.getPTS(), self._copy(frame)) for frame in decoded]

    def _copy(self, frame: Any) -> NvPicture:
        if frame.format != self._nvc.Pixel_Format.NV12:
            raise DecoderRefused(f"NVDEC gives {frame.format.name} pictures, expected NV12")
        views = [view.__cuda_array_interface__ for view in frame.cuda()]
        luma, chroma = ((view["shape"][0], view["strides"][0]) for view in views)
        planes = self._memory.take(luma, chroma)
        height, width = views[0]["shape"][:2]
        picture = NvPicture((height, width, 3), self._matrix, planes, self._memory, self._to_bgr)
        self._memory.fill(planes, (views[0]["data"][0], views[1]["data"][0]))
        return picture

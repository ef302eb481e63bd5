"""NVDEC, the video decoder of NVIDIA GPUs, through PyNvVideoCodec 2.2."""

from __future__ import annotations

import ctypes
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from squeezedrive.engines.backends.video_decoder import Codec, ColourMatrix, DecoderRefused, ToBgr


def open_nvdec(codec: Codec, matrix: ColourMatrix, to_bgr: ToBgr) -> NvDecoder:
    """Open a decoder on the GPU that this process computes on; an `OpenDecoder`.

    For a back end that runs on the GPU: without a driver, PyNvVideoCodec ends the process.

    Raises
    ------
    DecoderRefused
        If PyNvVideoCodec or the libraries it needs are missing.
    """
    try:
        import PyNvVideoCodec
    except ImportError:
        raise DecoderRefused(
            "Python package PyNvVideoCodec is not installed (pip install PyNvVideoCodec)"
        ) from None
    except RuntimeError as error:  # what it raises for a missing libnvidia-encode.so
        raise DecoderRefused(str(error).splitlines()[0]) from None
    from numba import cuda

    return NvDecoder(codec, matrix, to_bgr, PyNvVideoCodec, cuda)


class NvPicture:
    """A picture as NVDEC gives it, in memory of its own.

    Attributes
    ----------
    shape : tuple of int
        Height, width, 3.
    matrix : str
        Colour matrix: "bt601" or "bt709".
    luma, chroma : Numba device arrays, uint8 (1, height, pitch), (1, (height + 1) // 2, pitch)
        What `kernels.cuda.preprocess` takes as NV12. Complete: no stream has to be waited for.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        matrix: ColourMatrix,
        planes: tuple[Any, Any],
        to_bgr: ToBgr,
        give_back: Callable[[tuple[Any, Any]], None],
    ) -> None:
        self.shape = shape
        self.matrix: ColourMatrix = matrix
        self.luma, self.chroma = planes
        self._to_bgr = to_bgr
        self._give_back = give_back

    def __del__(self) -> None:
        self._give_back((self.luma, self.chroma))

    def to_host(self) -> NDArray[np.uint8]:
        """Copy the picture to the host, as BGR (height, width, 3)."""
        _, width, _ = self.shape
        luma = self.luma.copy_to_host()[0, :, :width]
        return self._to_bgr(luma, self.chroma.copy_to_host()[0, :, : width + width % 2])


class NvDecoder:
    """Decodes one track of H.264 or H.265, 8 bits, 4:2:0.

    NVDEC writes into a handful of buffers of its own and uses them again: each picture is copied
    within the GPU, on the stream the decoder works on, before the next packet goes in. The copies
    come from a pool that pictures return to when they are forgotten.

    To be used by one thread. `nvc` is the module PyNvVideoCodec, `cuda` that of Numba.
    """

    def __init__(
        self, codec: Codec, matrix: ColourMatrix, to_bgr: ToBgr, nvc: Any, cuda: Any
    ) -> None:
        self._nvc = nvc
        self._errors = (nvc.PyNvVCException, nvc.PyNvVCExceptionUnsupported, RuntimeError)
        self._cuda = cuda
        self._matrix: ColourMatrix = matrix
        self._to_bgr = to_bgr
        self._spare: deque[tuple[Any, Any]] = deque()
        context = cuda.current_context()
        self._stream = cuda.stream()
        try:
            self._decoder = nvc.CreateDecoder(
                gpuid=context.device.id,
                codec=getattr(nvc.cudaVideoCodec, codec.upper()),
                cudacontext=int(context.handle),
                cudastream=int(self._stream),
                usedevicememory=True,
            )
        except self._errors as error:
            raise DecoderRefused(f"NVDEC: {error}") from None

    def decode(self, data: bytes, pts: int) -> list[tuple[int, NvPicture]]:
        """Take a packet; see `engines.backends.video_decoder.VideoDecoder`."""
        buffer = ctypes.create_string_buffer(data, len(data))
        packet = self._nvc.PacketData()
        packet.bsl_data = ctypes.addressof(buffer)
        packet.bsl = len(data)
        packet.pts = pts
        return self._pictures(packet)

    def flush(self) -> list[tuple[int, NvPicture]]:
        """Return the pictures that are still held after the last packet."""
        return self._pictures(self._nvc.PacketData())  # an empty one means the end

    def close(self) -> None:
        """Release the decoder and the memory that no picture uses."""
        self._decoder = None
        self._spare.clear()

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
        planes = self._planes(*((view["shape"][0], view["strides"][0]) for view in views))
        for view, plane in zip(views, planes, strict=True):
            source = self._cuda.from_cuda_array_interface(
                {"shape": plane.shape, "typestr": "|u1", "data": view["data"], "version": 3},
                owner=frame,
            )
            plane.copy_to_device(source, stream=self._stream)
        self._stream.synchronize()
        height, width = views[0]["shape"][:2]
        return NvPicture((height, width, 3), self._matrix, planes, self._to_bgr, self._spare.append)

    def _planes(self, luma: tuple[int, int], chroma: tuple[int, int]) -> tuple[Any, Any]:
        """Return memory for planes of these rows and pitches, used before if there is any."""
        while self._spare:
            planes = self._spare.popleft()
            if (planes[0].shape[1:], planes[1].shape[1:]) == (luma, chroma):
                return planes
        return (
            self._cuda.device_array((1, *luma), np.uint8),
            self._cuda.device_array((1, *chroma), np.uint8),
        )

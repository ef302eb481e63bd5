"""Decode, top N and non-maximum suppression on the GPU: output of the network in, boxes out."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import cuda, from_dtype, types
from numpy.typing import NDArray

from squeezedrive.kernels import formulas
from squeezedrive.kernels.cuda import select
from squeezedrive.kernels.cuda.launch import Kernel, copy_to_device, pinned_array
from squeezedrive.kernels.detections import Detections
from squeezedrive.kernels.head import Head
from squeezedrive.kernels.params import DetectParams

RESULT = np.dtype(np.float32)


class DetectKernels:
    """Finds the objects in the network's output as `kernels.reference.detect` does.

    Its tables and its workspace lie in the memory of the current context. Work enqueued by one
    detector uses the same workspace, so each stream needs a detector of its own.

    The result of a picture is a row of 1 + 6 N float32, N = `params.top_n`: how many boxes were
    found, then x1, y1, x2, y2, score and class of each, best first, in pixels of the network's
    input. What follows the last box is undefined. With N = 256 it takes 6,148 bytes.

    Parameters
    ----------
    head : Head
        How to read the output.
    params : DetectParams
        Which boxes to keep. Any thread may replace the attribute of this name at any time by one
        with the same `top_n`; it applies from the next `enqueue` or `update` on. `enqueue` copies
        the parameters to the GPU each time: a CUDA graph of it copies those that are there when it
        runs.
    dtype : np.dtype
        float16 or float32: type of the output. The arithmetic is float32.
    max_batch : int
        Largest number of pictures of one launch.

    Raises
    ------
    ValueError
        If an argument is out of range, or a class to keep does not exist.
    KernelRefused
        If a kernel cannot be compiled or loaded.
    """

    def __init__(
        self, head: Head, params: DetectParams, dtype: np.dtype[Any], max_batch: int
    ) -> None:
        if params.top_n > select.MAX_TOP_N:
            raise ValueError(
                f"expected a top N of at most {select.MAX_TOP_N} on the GPU, got {params.top_n}"
            )
        if np.dtype(dtype).name not in ("float16", "float32"):
            raise ValueError(f"expected an output of float16 or float32, got {dtype}")
        if max_batch < 1:
            raise ValueError(f"expected a batch of at least 1, got {max_batch}")
        if len(head.anchors) * head.classes >= 2**32:
            raise ValueError(
                f"expected fewer than 2**32 anchors times classes, got {len(head.anchors)} times"
                f" {head.classes}"
            )
        self.head = head
        self.params = params
        self.dtype = np.dtype(dtype)
        self.max_batch = max_batch
        self._top_n = params.top_n
        self._written: DetectParams | None = None
        self._anchors = cuda.to_device(head.anchors)
        self._channels = cuda.to_device(head.channels.astype(np.int32))
        self._host_settings = pinned_array(select.THRESHOLDS + head.classes, RESULT)
        self._settings = cuda.device_array(self._host_settings.shape, RESULT)
        self._keys = cuda.device_array((max_batch, len(head.anchors)), np.uint64)
        self._counts = cuda.to_device(np.zeros(max_batch, np.int32))
        self._score = Kernel(select.score_anchors, *_score_types(self.dtype))
        self._select = Kernel(select.select_boxes, *_select_types(self.dtype))
        self.update()

    def result_shape(self, batch: int) -> tuple[int, int]:
        """Return the shape of the result of `batch` pictures, an array of dtype RESULT."""
        return batch, 1 + select.RECORD * self._top_n

    def update(self) -> None:
        """Write `params`, if they are new, into the memory from which they are copied to the GPU.

        `enqueue` calls this; before a graph of `enqueue` is launched again, the caller has to.
        Earlier work has to be done, because it would copy the new parameters.

        Raises
        ------
        ValueError
            If they have another `top_n`, or a class to keep does not exist.
        """
        params = self.params
        if params is self._written:
            return
        if params.top_n != self._top_n:
            raise ValueError(f"expected a top N of {self._top_n} as before, got {params.top_n}")
        thresholds = params.thresholds(self.head.classes)
        settings = self._host_settings
        settings[select.LOGIT_CUTOFF] = formulas.logit_cutoff(float(thresholds.min()))
        settings[select.NMS_IOU] = params.nms_iou
        settings[select.GREEDY] = params.greedy
        settings[select.THRESHOLDS :] = thresholds
        self._written = params

    def enqueue(self, output: Any, result: Any, stream: int) -> None:
        """Enqueue the detection in one or more outputs, and return at once.

        Parameters
        ----------
        output : device array (B, channels, rows, columns), C-contiguous
            Of this detector's dtype.
        result : device array of shape `result_shape(B)` and dtype RESULT
            Is overwritten.
        stream : int
            Handle of a CUDA stream; 0 is the default stream.

        Raises
        ------
        ValueError
            If an array does not have the shape or type this detector was made for.
        """
        batch = output.shape[0]
        if not 1 <= batch <= self.max_batch:
            raise ValueError(f"expected 1 to {self.max_batch} pictures, got {batch}")
        for name, array, shape, dtype in (
            ("network output", output, (batch, *self.head.output_shape), self.dtype),
            ("result", result, self.result_shape(batch), RESULT),
        ):
            if tuple(array.shape) != shape or array.dtype != dtype:
                raise ValueError(
                    f"expected a {name} of shape {shape} and type {dtype}, got "
                    f"{tuple(array.shape)} and {array.dtype}"
                )
        self.update()
        copy_to_device(self._settings, self._host_settings, stream)
        head, grid = self.head, self.head.grid
        cells = grid.rows * grid.columns
        flat = output.reshape(output.size)
        blocks = -(-len(head.anchors) // select.SCORE_BLOCK)
        lists = self._settings, self._keys, self._counts
        self._score.enqueue(
            *((blocks, batch, 1), (select.SCORE_BLOCK, 1), stream),
            *(flat, self._channels, cells, *lists),
        )
        self._select.enqueue(
            *((batch, 1, 1), (select.SELECT_BLOCK, 1), stream),
            *(flat, self._anchors, self._channels, cells, np.float32(head.exp_threshold)),
            *(np.float32(n) for n in (grid.width - 1, grid.height - 1, head.reach)),
            *(self._settings, self._top_n, self._keys, self._counts, result),
        )

    def unpack(self, result: NDArray[np.float32]) -> tuple[Detections, list[int]]:
        """Return the detections of all pictures, in memory of their own, and how many each has.

        One picture after the other, as they are in the result: `Detections.split` takes them apart.

        Parameters
        ----------
        result : float32 array of shape `result_shape(B)`
            What `enqueue` wrote, copied to the host.
        """
        counts: list[int] = result[:, 0].astype(np.int32).tolist()
        records = [
            row[1 : 1 + select.RECORD * count] for row, count in zip(result, counts, strict=True)
        ]
        found = np.concatenate(records).reshape(-1, select.RECORD)
        boxes, scores = found[:, :4].copy(), found[:, 4].copy()
        return Detections(boxes, scores, found[:, 5].astype(np.int32)), counts


def _score_types(dtype: np.dtype[Any]) -> tuple[Any, ...]:
    """Return the types of the arguments of `score_anchors`."""
    i4, i8, u8, f4 = types.int32, types.int64, types.uint64, types.float32
    return from_dtype(dtype)[::1], i4[:, ::1], i8, f4[::1], u8[:, ::1], i4[::1]


def _select_types(dtype: np.dtype[Any]) -> tuple[Any, ...]:
    """Return the types of the arguments of `select_boxes`."""
    i4, i8, u8, f4 = types.int32, types.int64, types.uint64, types.float32
    decoding = (from_dtype(dtype)[::1], f4[:, ::1], i4[:, ::1], i8, f4, f4, f4, f4)
    return *decoding, f4[::1], i8, u8[:, ::1], i4[::1], f4[:, ::1]

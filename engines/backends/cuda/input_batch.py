"""The pictures of a batch in the GPU's memory, and the network's input made from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import numpy as np

from squeezedrive.engines.backends.cuda.context import GpuContext
from squeezedrive.engines.backends.cuda.graph import RepeatedWork
from squeezedrive.engines.backends.cuda.image_kernels import ImageKernels, PreprocessKernel
from squeezedrive.engines.backends.cuda.nvdec import NvPicture
from squeezedrive.engines.backends.cuda.stream import MarkedStream
from squeezedrive.engines.backends.video_decoder import ColourMatrix
from squeezedrive.kernels.fit import Fit, HostPicture, rows_of

Picture = HostPicture | NvPicture
Kind = tuple[int, int, ColourMatrix | None]  # width, height, and the matrix of decoded pictures

_PATHS = 16  # kinds of pictures that are prepared for at a time
_PLANS = 64  # batches of them


@dataclass(frozen=True, eq=False)
class InputPath:
    """How pictures of one size and kind become the network's input.

    Attributes
    ----------
    fit : Fit
        Where they go.
    matrix : str or None
        Colour matrix of pictures that the GPU has decoded; None for pictures of the host.
    kernel : PreprocessKernel
        Makes the input. From the host it gets only the rows of the crop, so its pictures begin
        with the first of these.
    rows : slice
        Which rows of a picture the network sees.
    """

    fit: Fit
    matrix: ColourMatrix | None
    kernel: PreprocessKernel
    rows: slice


@dataclass(frozen=True, eq=False)
class InputPlan:
    """The steps for batches of pictures of certain kinds in a certain order.

    Attributes
    ----------
    paths : list of InputPath
        Of each picture.
    pixels : list of uint8 arrays (rows, width, 3)
        The pinned memory that each picture of the host is copied to, one behind the other.
    host : uint8 array or None
        All of these together; None without pictures of the host.
    address : int
        Where they are copied to on the GPU.
    launches : list of (kernel, source, target)
        One for each series of pictures of the host of the same size.
    decoded : list of (path, target)
        Of each picture that the GPU has decoded: its kernel, and the part of the input.
    """

    paths: list[InputPath]
    pixels: list[Any]
    host: Any
    address: int
    launches: list[tuple[PreprocessKernel, Any, Any]]
    decoded: list[tuple[InputPath, Any]]


class InputBatch:
    """The network's input, and the memory that it is filled from.

    Attributes
    ----------
    paths : list of InputPath
        Of the pictures of the batch; empty while there are none.

    Parameters
    ----------
    inputs : device array (B, 3, height, width)
        The input.
    """

    def __init__(
        self, gpu: GpuContext, kernels: ImageKernels, inputs: Any, marked: MarkedStream
    ) -> None:
        self.paths: list[InputPath] = []
        self._gpu = gpu
        self._kernels = kernels
        self._inputs: Any = inputs
        self._marked = marked
        self._known: dict[Kind, InputPath] = {}
        self._plans: dict[tuple[Kind, ...], tuple[InputPlan, RepeatedWork]] = {}
        self._plan: InputPlan | None = None
        self._work: RepeatedWork | None = None
        self._decoded: list[NvPicture] = []  # those of the batch
        # Pinned host memory and device memory, which only ever grow.
        self._pinned: Any = None
        self._device: Any = None

    def take(self, pictures: Sequence[Picture]) -> None:
        """Copy pictures into pinned memory; the GPU must have read those before.

        From a picture on the host, only the rows that the network sees are copied. A picture that
        the GPU has decoded stays where it is, and is kept until the next batch, so that its memory
        is not used again too early.
        """
        self.paths = []  # if this fails, there is no batch
        kinds = tuple([_kind(picture) for picture in pictures])
        known = self._plans.get(kinds)
        if known is None:
            plan = self._new_plan(kinds)
            known = self._plans[kinds] = plan, RepeatedWork(self._marked, lambda: self._fill(plan))
        self._plan, self._work = known
        places = iter(self._plan.pixels)
        decoded = []
        for picture, path in zip(pictures, self._plan.paths, strict=True):
            if isinstance(picture, NvPicture):
                decoded.append(picture)
            else:
                rows = rows_of(picture, path.rows.start, path.rows.stop)
                np.copyto(next(places), rows)
        self._decoded = decoded
        self.paths = self._plan.paths

    def enqueue(self) -> None:
        """Enqueue everything that makes the network's input from the pictures."""
        assert self._plan is not None
        assert self._work is not None
        if self._plan.launches:
            self._work.enqueue()
        handle = self._marked.handle
        for (path, target), picture in zip(self._plan.decoded, self._decoded, strict=True):
            path.kernel.enqueue((picture.luma, picture.chroma), target, handle)

    @property
    def nodes(self) -> int:
        """How many copies and launches are recorded for pictures of the host."""
        return 0 if self._work is None else self._work.nodes

    def copy_in(self) -> None:
        """Enqueue only the copy of the pictures of the host."""
        assert self._plan is not None
        self._copy(self._plan)

    def launch(self) -> None:
        """Enqueue only the kernels for the pictures that were copied."""
        assert self._plan is not None
        self._launch(self._plan)

    def free(self) -> None:
        """Release the memory, and drop all references to objects of the GPU."""
        self._forget_plans()
        self.paths = []
        self._known.clear()
        self._inputs = None
        self._free_memory()

    def _fill(self, plan: InputPlan) -> None:
        self._copy(plan)
        self._launch(plan)

    def _copy(self, plan: InputPlan) -> None:
        # Called from here: in a traceback, no frame but the stream's owner refers to the stream.
        self._gpu.driver.memcpy_htod_async(plan.address, plan.host, self._marked.stream)

    def _launch(self, plan: InputPlan) -> None:
        handle = self._marked.handle
        for kernel, source, target in plan.launches:
            kernel.enqueue(source, target, handle)

    def _new_plan(self, kinds: tuple[Kind, ...]) -> InputPlan:
        if len(self._plans) >= _PLANS:
            self._marked.settle()
            self._forget_plans()
        paths = [self._path(kind) for kind in kinds]
        shapes = [(p.rows.stop - p.rows.start, p.fit.source_size[0], 3) for p in paths]
        sizes = [0 if p.matrix else int(np.prod(s)) for p, s in zip(paths, shapes, strict=True)]
        self._make_room(sum(sizes))
        plan = InputPlan(paths, [], None, 0, [], [])
        if sum(sizes):
            plan = replace(plan, host=self._pinned[: sum(sizes)], address=int(self._device))
            whole = self._gpu.array(self._device, (sum(sizes),), np.uint8)
        begin = first = 0
        for path, group in groupby(paths):
            count = len(list(group))
            target = self._inputs[first : first + count]
            if path.matrix is not None:
                plan.decoded.extend((path, target[i : i + 1]) for i in range(count))
            else:
                shape, size = shapes[first], sizes[first]
                source = whole[begin : begin + count * size].reshape(count, *shape)
                plan.launches.append((path.kernel, source, target))
                for _ in range(count):
                    plan.pixels.append(plan.host[begin : begin + size].reshape(shape))
                    begin += size
            first += count
        return plan

    def _path(self, kind: Kind) -> InputPath:
        if kind not in self._known:
            if len(self._known) >= _PATHS:
                self._marked.settle()
                self._forget_plans()
                self._known.clear()
            width, height, matrix = kind
            fit = seen = self._kernels.make_fit((width, height))
            x0, top, x1, bottom = fit.crop
            if matrix is None:
                size, crop = (width, bottom - top), (x0, 0, x1, bottom - top)
                seen = replace(fit, source_size=size, crop=crop)
            kernel = self._kernels.preprocessor(seen, matrix)
            self._known[kind] = InputPath(fit, matrix, kernel, slice(top, bottom))
            self._gpu.synchronize()  # its tables came on another stream
        return self._known[kind]

    def _make_room(self, size: int) -> None:
        if size and (self._device is None or size > self._pinned.nbytes):
            self._marked.settle()
            self._forget_plans()  # which have the addresses of the old memory
            self._free_memory()
            self._pinned = self._gpu.driver.pagelocked_empty((size,), np.uint8)
            self._device = self._gpu.driver.mem_alloc(size)

    def _forget_plans(self) -> None:
        """Drop all plans; their work has to be done."""
        for _, work in self._plans.values():
            work.close()
        self._plans.clear()
        self._plan = self._work = None
        self._decoded = []

    def _free_memory(self) -> None:
        if self._pinned is not None:
            pinned, self._pinned = self._pinned, None
            pinned.base.free()
        if self._device is not None:
            device, self._device = self._device, None
            device.free()


def _kind(picture: Picture) -> Kind:
    height, width = picture.shape[:2]
    return width, height, picture.matrix if isinstance(picture, NvPicture) else None

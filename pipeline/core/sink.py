"""The interface of all sinks of results."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:  # the command line imports sinks for its help, which does not wait for NumPy
    import numpy as np
    from numpy.typing import NDArray

    from squeezedrive.kernels.detections import Detections
    from squeezedrive.pipeline.core.frame import Frame


STDOUT = Path("-")  # the name for standard output


@dataclass(frozen=True)
class FrameResult:
    """A frame and its detections, which are drawn into the frame if a sink needs it.

    Boxes are in pixels of `frame.picture`.

    Attributes
    ----------
    frame : Frame
        The picture.
    detections : Detections
        The n objects found in it.
    ids : int32 array (n,) or None
        Number of the object that each detection is taken to be; None if nothing is followed.
    detected : bool
        Whether the network has seen this frame. If not, boxes are interpolated between two frames
        that it has seen.
    """

    frame: Frame
    detections: Detections
    ids: NDArray[np.int32] | None = None
    detected: bool = True


class Sink(ABC):
    """An output for results, written by one thread.

    Nothing is created before the first `write`, so that a run that never gets a frame leaves
    everything as it was. What was written stays readable if the process dies. `write` and `close`
    raise `SinkError` naming the output; `close` may be called more than once.

    Attributes
    ----------
    name : str
        What the user calls the output.
    draws : bool
        Whether it needs the boxes drawn into the picture.
    takes_yuv : bool
        Whether boxes may be drawn into `Frame.yuv`, where a frame has it, instead of
        `Frame.image`.
    is_display : bool
        Whether it only shows results and leaves nothing behind.
    ended : bool
        Whether the run should end, as when the user closes a window.
    """

    name: str
    draws: bool = False
    takes_yuv: ClassVar[bool] = False
    is_display: ClassVar[bool] = False
    ended: bool = False

    @abstractmethod
    def write(self, result: FrameResult) -> None:
        """Add one result."""

    @abstractmethod
    def close(self) -> None:
        """Finish the output."""

    @property
    def warnings(self) -> list[str]:
        """One line for each problem that did not end the run."""
        return []

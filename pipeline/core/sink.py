"""What every sink of results looks like to the pipeline."""

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
    """A frame, its pixels drawn on where a sink wants a picture, and what was found in it.

    Boxes are in pixels of `frame.picture`.

    Attributes
    ----------
    frame : Frame
        The picture.
    detections : Detections
        What is in it, n objects.
    ids : int32 array (n,) or None
        Number of the object that each detection is taken to be; None if nothing is followed.
    detected : bool
        Whether the network has seen this frame. If not, objects are on the way between two that it
        has.
    """

    frame: Frame
    detections: Detections
    ids: NDArray[np.int32] | None = None
    detected: bool = True


class Sink(ABC):
    """A place results go to, written by one thread.

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
        Whether it is as well served if they are drawn into `Frame.yuv` where there are any. If
        not, they are drawn into `Frame.image`.
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
        """One line for everything that was not as it should be but did not end the run."""
        return []

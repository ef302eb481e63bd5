"""Pass the messages of TensorRT to Python's logging, and keep its last error for ours."""

from __future__ import annotations

import logging
from functools import cache
from typing import Any

log = logging.getLogger("squeezedrive.tensorrt")

_LONGEST = 300


@cache
def open_logger(trt: Any) -> Any:
    """Return the process's one `ILogger` of a TensorRT module.

    TensorRT keeps the first logger of a process for all that comes later, so there is only one.
    Its messages go to the logger "squeezedrive.tensorrt" at level DEBUG, errors included: those
    that matter are quoted in the exception that follows, the others are about tactics it tried.

    Returns
    -------
    ILogger
        With `last_error`, the last error as one line, "" for none; set it to "" before an
        operation whose error is of interest.
    """

    class Logger(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.last_error = ""

        def log(self, severity: Any, msg: str) -> None:
            # Called from TensorRT's threads, hundreds of thousands of times in a build.
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                self.last_error = " ".join(msg.split())[:_LONGEST]
            if log.isEnabledFor(logging.DEBUG):
                log.debug("%s: %s", severity.name, msg)

    return Logger()

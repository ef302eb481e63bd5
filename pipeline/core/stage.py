"""The stages that a frame passes, by name."""

from __future__ import annotations

from typing import Literal, get_args

StageName = Literal["capture", "preprocess", "inference", "postprocess", "render", "sinks"]
STAGES: tuple[StageName, ...] = get_args(StageName)

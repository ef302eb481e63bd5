"""Choose the device of a training, its number format, and its processes."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from squeezedrive.engines.errors import UserError
from squeezedrive.engines.training.config import TrainConfig

T = TypeVar("T")

# A process waits this long for the others, which wait while the first process evaluates.
PATIENCE = timedelta(hours=1)


@dataclass(frozen=True)
class Compute:
    """The device of this process, and how it computes.

    Attributes
    ----------
    device : torch.device
        Processor or GPU.
    precision : str
        "fp32", "bf16" or "fp16".
    rank, world : int
        Index of this process, and number of processes; torchrun starts one for each GPU.
    """

    device: torch.device
    precision: str
    rank: int
    world: int

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and evaluates."""
        return self.rank == 0

    def autocast(self) -> torch.autocast:
        """Return a context in which the network computes in the chosen precision."""
        kind = torch.float16 if self.precision == "fp16" else torch.bfloat16
        return torch.autocast(self.device.type, kind, enabled=self.precision != "fp32")

    def highest(self, number: int) -> int:
        """Return the highest number among all processes; each process calls this with its own."""
        if self.world == 1:
            return number
        value = torch.tensor(number, device=self.device)
        dist.all_reduce(value, dist.ReduceOp.MAX)
        return int(value.item())

    def gather(self, value: T) -> list[T]:
        """Return the values (plain or tensors) of all processes, in the order of their ranks."""
        if self.world == 1:
            return [value]
        values: list[Any] = [None] * self.world
        dist.all_gather_object(values, value)
        return values

    def __str__(self) -> str:
        name = "CPU"
        if self.device.type == "cuda":
            name = torch.cuda.get_device_name(self.device)
        threads = f", {torch.get_num_threads()} threads" if self.device.type == "cpu" else ""
        return f"{self.world} x {name}{threads}, {self.precision}"


@contextlib.contextmanager
def open_compute(config: TrainConfig) -> Iterator[Compute]:
    """Choose device and precision, and connect the processes if torchrun started several.

    Raises
    ------
    UserError
        If the machine does not support the configuration.
    """
    cuda = torch.cuda.is_available()
    if config.device == "cuda" and not cuda:
        raise UserError(
            "device cuda: PyTorch finds no NVIDIA GPU here (driver, or a CPU build of PyTorch);"
            " --set device=cpu trains without one"
        )
    use_cuda = cuda and config.device != "cpu"
    if config.precision == "fp16" and not use_cuda:
        raise UserError("precision fp16 needs a GPU; on the CPU use fp32 or bf16")
    if config.threads:
        torch.set_num_threads(config.threads)
    if not use_cuda:
        _keep_memory()
    local = int(os.environ.get("LOCAL_RANK", 0))
    device = torch.device("cuda", local) if use_cuda else torch.device("cpu")
    if use_cuda:
        torch.cuda.set_device(device)
        torch.backends.cudnn.benchmark = True
    world = int(os.environ.get("WORLD_SIZE", 1))
    rank = int(os.environ.get("RANK", 0))
    precision = _fast_precision(use_cuda) if config.precision == "auto" else config.precision
    if world > 1:
        dist.init_process_group("nccl" if use_cuda else "gloo", timeout=PATIENCE)
    try:
        yield Compute(device, precision, rank, world)
    finally:
        if world > 1:
            dist.destroy_process_group()


def _fast_precision(use_cuda: bool) -> str:
    """Return the fastest number format on this machine."""
    if use_cuda:
        # GPUs before Ampere emulate bfloat16.
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    # Processors with AMX multiply bfloat16 several times as fast; others emulate it.
    return "bf16" if torch.cpu.get_capabilities().get("amx_bf16", False) else "fp32"


def _keep_memory() -> None:
    """Make glibc reuse large blocks of memory instead of returning them to the system.

    Each step allocates hundreds of megabytes of activations. By default, each such block goes back
    to the system, which clears its pages again; this takes a third of a step's time on the CPU.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        trim_threshold, mmap_max = -1, -4
        mallopt(mmap_max, 0)
        mallopt(trim_threshold, 2**31 - 1)

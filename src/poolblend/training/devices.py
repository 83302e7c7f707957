"""The device and the precision of a model, and what to do when memory runs out."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Literal

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils.memory import should_reduce_batch_size

from poolblend.errors import UserError
from poolblend.training.options import Precision

FP32_ONLY = "fp32_only"  # in a card: `auto` is fp32, since the encoder fails in half precision
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def choose_device() -> torch.device:
    """The first CUDA device where there is one, else Apple's GPU, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def resolve_precision(
    precision: Precision, device: torch.device
) -> Literal["fp32", "bf16", "fp16"]:
    """`auto` as bf16 where the device computes in it, fp16 on GPUs that do not, fp32 otherwise."""
    if precision == "fp16" and device.type == "cpu":
        return "fp32"  # accelerate trains so: fp16 needs loss scaling, which is for GPUs
    return native_precision(device) if precision == "auto" else precision


def native_precision(device: torch.device) -> Literal["fp32", "bf16", "fp16"]:
    """The fastest precision that the device computes in without emulation."""
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    fast_bf16 = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    return "bf16" if device.type == "cpu" and fast_bf16() else "fp32"


def computes_in(precision: str, device: torch.device) -> bool:
    """Whether the device computes in this precision itself, without emulation."""
    # GPUs that have bf16 have fp16, too.
    also = {"fp32", "fp16"} if device.type == "cuda" else {"fp32"}
    return precision in also | {native_precision(device)}


def accelerator(precision: str) -> Accelerator:
    """Prepares models for the device and precision; UserError where a launcher started several."""
    # accelerate keeps one state per process, but each fit may use another precision.
    AcceleratorState._reset_state()
    made = Accelerator(mixed_precision="no" if precision == "fp32" else precision)
    if made.num_processes > 1:
        raise UserError(
            "a launcher started several processes for one training; start train.py alone, and set "
            "--workers auto, which trains a fold on each GPU"
        )
    return made


def out_of_memory(error: Exception) -> bool:
    """Whether a smaller batch may avoid this error."""
    return isinstance(error, torch.OutOfMemoryError) or should_reduce_batch_size(error)


def device_works() -> bool:
    """Whether the device works: after some CUDA errors this process cannot use it again."""
    try:
        return float(torch.ones(2, device=choose_device()).sum()) == 2
    except (RuntimeError, AssertionError):  # the latter where torch is built without it
        return False


def free_cached() -> None:
    """Free the device memory of a failed attempt."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if torch.backends.mps.is_available():
        torch.mps.empty_cache()


class TooLittleMemoryError(UserError):
    """The device or the machine has too little memory, even for the smallest batches."""


@contextmanager
def enough_memory(advice: str) -> Iterator[None]:
    """Turn running out of memory into an error with advice on what to set."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not isinstance(error, MemoryError) and not out_of_memory(error):
            raise
        reason = " ".join(str(error).split(". ")[0].split())[:200]
        shown = f" ({reason})" if reason else ""
        raise TooLittleMemoryError(f"the device is out of memory{shown}; {advice}") from None


def release_memory() -> None:
    """Free a dropped model's memory before the next one is loaded."""
    gc.collect()
    torch.cuda.empty_cache()
    trim_heap()


def trim_heap() -> None:
    """Give freed memory back to the system."""
    # Batches of changing shapes fragment glibc's heap: over 1 GB after one fold of MiniLM, growing
    # with each fold. Other C libraries lack the function, or do not need it.
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)

"""The device and the precision of a model, and what to do when memory runs out."""

from __future__ import annotations

import ctypes
import gc
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from typing import Literal

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from poolblend.errors import UserError
from poolblend.modeling.options import Dtype
from poolblend.training.options import Precision

log = logging.getLogger(__name__)

FP32_ONLY = "fp32_only"  # in a card: `auto` is fp32, since the encoder fails in half precision
# What libraries say when they get no memory; torch's own class covers most of its allocations.
NO_MEMORY = (
    "out of memory",  # "CUDA error: out of memory", and other devices' allocators
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_NOT_SUPPORTED",  # cuDNN without the memory for its workspace
    "CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
    "can't allocate memory",  # torch on a CPU
)


def choose_device() -> torch.device:
    """The first CUDA device where there is one, else Apple's GPU, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def runs_ahead(device: torch.device) -> bool:
    """Whether the device computes while Python goes on, so that reading from it means waiting."""
    return device.type == "cuda"


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
        return "bf16" if _has_bf16() else "fp16"
    fast_bf16 = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    return "bf16" if device.type == "cpu" and fast_bf16() else "fp32"


def computes_in(precision: str, device: torch.device) -> bool:
    """Whether the device computes in this precision itself, without emulation."""
    # GPUs that have bf16 have fp16, too.
    also = {"fp32", "fp16"} if device.type == "cuda" else {"fp32"}
    return precision in also | {native_precision(device)}


def _has_bf16() -> bool:
    return torch.cuda.is_bf16_supported(including_emulation=False)


def emulated(precision: str, device: torch.device) -> str | None:
    """That the device computes in `precision` by way of fp32, slowly, in words; None: it does not.

    GPUs before NVIDIA's Ampere (T4, P100, V100) do so with bf16.
    """
    if precision != "bf16" or device.type != "cuda" or _has_bf16():
        return None
    return (
        f"train.precision is bf16, which {torch.cuda.get_device_name(device)} does not have and "
        "emulates slowly; set it to auto"
    )


def check_precision(precision: Precision, attention: str) -> None:
    """Raise UserError for an attention that the precision excludes; warn of an emulated one."""
    device = choose_device()
    resolved = resolve_precision(precision, device)
    if attention == "flash_attention_2" and resolved == "fp32":
        raise UserError(
            "train.attention is flash_attention_2, which computes in bf16 and fp16 only, but the "
            "precision here is fp32; set train.attention to auto, or train.precision to bf16 or "
            "fp16 on a GPU"
        )
    slow = emulated(resolved, device)
    if slow:
        _warn_once(slow)


@cache  # members share a device
def _warn_once(message: str) -> None:
    log.warning("%s", message)


def dtype_here(dtype: Dtype) -> Dtype:
    """What a trained model's weights of this dtype are held in: fp32 on a CPU that emulates it."""
    device = choose_device()
    return dtype if device.type != "cpu" or computes_in(dtype, device) else "fp32"


def check_dtype(dtype: Dtype) -> None:
    """Raise UserError for weights in fp16 on a CPU; warn where bf16 is emulated."""
    device = choose_device()
    if dtype == "fp16" and device.type == "cpu":
        raise UserError(
            "backbone.dtype is fp16, which is for GPUs; on this CPU set it to bf16 or fp32"
        )
    if dtype == "bf16" and not computes_in(dtype, device):
        gpu = device.type == "cuda"
        where = torch.cuda.get_device_name(device) if gpu else f"this machine's {device.type}"
        _warn_once(
            f"backbone.dtype is bf16, which {where} does not have and emulates slowly; set it to "
            + ("fp16" if gpu else "fp32, if memory allows")
        )


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


def use_deterministic(on: bool) -> None:
    """Whether this process uses only operations that give the same bits each time.

    Without it, some sums on a GPU are added up in any order. torch raises RuntimeError where an
    operation has no such form.
    """
    if on:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # or cuBLAS is refused
    torch.use_deterministic_algorithms(on)


def out_of_memory(error: Exception) -> bool:
    """Whether a smaller batch may avoid this error."""
    said = isinstance(error, RuntimeError) and any(words in str(error) for words in NO_MEMORY)
    return said or isinstance(error, torch.OutOfMemoryError)


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

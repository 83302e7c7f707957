"""A training step on each device, compared with one on the CPU in float64."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING

from poolblend.doctor.checks import Finding, Run, check, fail, failure, ok, size, warn
from poolblend.training.resources import usable_cores

if TYPE_CHECKING:
    import torch

ON_CPU = "to train on the CPU meanwhile, set CUDA_VISIBLE_DEVICES= (empty)"
UPDATE = f"update the driver, or install the build of torch for it; {ON_CPU}"


@check("cpu", fix="install torch again: pip install --force-reinstall -r requirements.txt")
def cpu(run: Run) -> Iterator[Finding]:
    """A training step on the CPU is correct, and there is one thread per core."""
    import torch

    from poolblend.training.devices import choose_device, resolve_precision

    device = torch.device("cpu")
    precision = resolve_precision(run.config.train.precision, device)
    native = resolve_precision("auto", device) == "bf16"
    threads, cores = torch.get_num_threads(), usable_cores()
    found = f"threads: {threads}, cores: {cores:g}, bf16 {'' if native else 'not '}native"
    error = _wrong_numbers(device, precision)
    trains_here = choose_device().type == "cpu"
    if error:
        yield fail(error, "check the memory and the torch installation of this machine")
    elif trains_here and precision == "bf16" and not native:
        yield warn(f"{found}, but train.precision=bf16", "set train.precision=auto: fp32 is faster")
    elif trains_here and (threads > cores or 2 * threads < cores):
        yield warn(found, f"set OMP_NUM_THREADS={max(1, int(cores))}: other numbers are slower")
    else:
        yield ok(f"training step in {precision} is correct; {found}")


@check("gpu", fix=UPDATE)
def gpu(run: Run) -> Iterator[Finding]:
    """A training step on each GPU is correct; without a GPU, the reason."""
    import torch

    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            yield _gpu(run, f"cuda:{index}")
    elif torch.backends.mps.is_available():
        yield _gpu(run, "mps")
    else:
        yield _no_gpu()


def _gpu(run: Run, name: str) -> Finding:
    import torch

    from poolblend.training.devices import emulated, resolve_precision

    device, cuda = torch.device(name), name != "mps"
    try:
        with torch.cuda.device(device) if cuda else nullcontext():
            precision = resolve_precision(run.config.train.precision, device)
            slow = emulated(precision, device)
            error = _wrong_numbers(device, precision)
        model = torch.cuda.get_device_name(device) if cuda else "Apple's GPU"
        free, total = torch.cuda.mem_get_info(device) if cuda else (math.inf, math.inf)
    except Exception as failed:
        return fail(f"{failure(failed, '').found}; {_build_and_driver()}", UPDATE, name)
    if error:
        return fail(f"{model}: {error}", f"do not train on it: update its driver; {ON_CPU}", name)
    if slow:
        found, _, remedy = slow.partition("; ")
        return warn(found, remedy, name)
    needed = run.memory_for_training
    found = f"{model}: {size(free)} of {size(total)} free" if cuda else model
    if free < needed:
        return warn(
            f"{found}, weights and optimizer need {size(needed)}",
            "end other processes on it (nvidia-smi lists them), or choose another GPU with "
            "CUDA_VISIBLE_DEVICES",
            name,
        )
    return ok(f"{found}; training step in {precision} is correct", name)


def _no_gpu() -> Finding:
    """Why torch finds no GPU: none exists, it is hidden, or driver and build do not fit."""
    import torch

    driver = nvidia_driver()
    if driver is None:
        return ok("none; the CPU trains")
    if torch.version.cuda is None:
        return warn(
            f"torch {torch.__version__} is built without CUDA, so the GPU ({driver}) is not used",
            "install a CUDA build of torch; its web site gives the command",
        )
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible in ("", "-1"):
        return ok(f"hidden by CUDA_VISIBLE_DEVICES={visible}; the CPU trains")
    try:
        torch.cuda.init()
        reason = f"torch finds no GPU (CUDA_VISIBLE_DEVICES={visible})"
    except Exception as error:
        reason = failure(error, "").found
    return fail(f"{reason}; {_build_and_driver()}", UPDATE)


def _build_and_driver() -> str:
    import torch

    built = f"torch {torch.__version__} is built for CUDA {torch.version.cuda}"
    return f"{built}, the driver is {nvidia_driver() or 'unknown'}"


def nvidia_driver() -> str | None:
    """The first NVIDIA GPU and its driver, as nvidia-smi prints them; None if there is none."""
    tool = shutil.which("nvidia-smi")
    if tool:
        query = [tool, "--query-gpu=name,driver_version", "--format=csv,noheader"]
        with suppress(OSError, subprocess.SubprocessError):
            done = subprocess.run(query, check=False, capture_output=True, text=True, timeout=5)
            if done.returncode == 0 and done.stdout.strip():
                return done.stdout.splitlines()[0]
    return None


def _wrong_numbers(device: torch.device, precision: str) -> str | None:
    """What is wrong with the device's results; None if they are correct."""
    from poolblend.training import trial

    error = trial.deviation(device, precision)
    allowed = trial.TOLERANCES[precision]
    if error <= allowed:
        return None
    if math.isnan(error):
        return f"a training step in {precision} gives NaN"
    return f"a training step in {precision} is off by {error:.2g} (relative), more than {allowed:g}"

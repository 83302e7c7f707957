"""The devices: a real training step on each, compared with what it should give."""

from __future__ import annotations

import math
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from poolblend.doctor.checks import Finding, Run, check, fail, failure, ok, size, warn
from poolblend.doctor.machine import usable_cores

if TYPE_CHECKING:
    import torch

ON_CPU = "to train on the CPU meanwhile, set CUDA_VISIBLE_DEVICES= (empty)"
CUDA_BUILD = "install a CUDA build of torch; the selector on its site names the command"


@check("cpu", fix="install torch anew: pip install --force-reinstall -r requirements.txt")
def cpu(run: Run) -> Iterator[Finding]:
    """The CPU trains a step as it should; how many threads it has, and whether bf16 is its own."""
    import torch

    from poolblend.training.devices import choose_device, resolve_precision

    device = torch.device("cpu")
    precision = resolve_precision(run.config.train.precision, device)
    native = resolve_precision("auto", device) == "bf16"
    threads, cores = torch.get_num_threads(), usable_cores()
    told = (
        f"{_counted(threads, 'thread')} on {_counted(cores, 'core')}, "
        f"bf16 {'native' if native else 'not native'}"
    )
    error = _wrong_numbers(device, precision)
    if error:
        yield fail(error, "check the memory and the torch installation of this machine")
    elif choose_device().type != "cpu":
        yield ok(f"training step in {precision} is right; {told}")
    elif precision == "bf16" and not native:
        yield warn(f"{told}, but train.precision=bf16", "set train.precision=auto: fp32 is faster")
    elif threads > cores or 2 * threads < cores:
        yield warn(told, f"set OMP_NUM_THREADS={max(1, int(cores))}: other numbers are slower")
    else:
        yield ok(f"training step in {precision} is right; {told}")


@check("gpu", fix=f"update the driver, or install the build of torch for it; {ON_CPU}")
def gpu(run: Run) -> Iterator[Finding]:
    """Every GPU trains a step as the CPU does; or why there is none."""
    import torch

    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            yield _cuda(run, index)
    elif torch.backends.mps.is_available():
        yield _mps(run)
    else:
        yield _none()


def _cuda(run: Run, index: int) -> Finding:
    import torch

    from poolblend.training.devices import resolve_precision

    name = f"cuda:{index}"
    try:
        with torch.cuda.device(index):
            precision = resolve_precision(run.config.train.precision, torch.device(name))
            error = _wrong_numbers(torch.device(name), precision)
            free, total = torch.cuda.mem_get_info(index)
    except Exception as failed:
        return _cuda_fails(name, index, failed)
    model = torch.cuda.get_device_name(index)
    told = f"{model}: {size(free)} of {size(total)} free"
    needed = 5 * max(run.weights.values(), default=0)
    if error:
        return fail(f"{model}: {error}", f"do not train on it: update its driver; {ON_CPU}", name)
    if free < needed:
        return warn(
            f"{told}, weights and optimizer need {size(needed)}",
            "end what else runs there (nvidia-smi lists it), or choose another GPU with "
            "CUDA_VISIBLE_DEVICES",
            name,
        )
    return ok(f"{told}; training step in {precision} is right", name)


def _cuda_fails(name: str, index: int, error: Exception) -> Finding:
    """A device's error with what is most often behind it: build, driver, architecture."""
    import torch

    cause = failure(error, ON_CPU).found
    built = f"torch {torch.__version__} is built for CUDA {torch.version.cuda}"
    driver = nvidia_driver() or "unknown"
    with suppress(Exception):  # a device in this state may answer nothing at all
        major, minor = torch.cuda.get_device_capability(index)
        if not runs_on(torch.cuda.get_arch_list(), major, minor):
            return fail(
                f"{cause}; {built} without kernels for sm_{major}{minor}, which this GPU is",
                f"install a build of torch that has them; {ON_CPU}",
                name,
            )
    return fail(
        f"{cause}; {built}, the driver is {driver}",
        f"update the driver, or install the build of torch for it; {ON_CPU}",
        name,
    )


def runs_on(built_for: Sequence[str], major: int, minor: int) -> bool:
    """Whether a build for these architectures has kernels for compute capability `major.minor`.

    Machine code (sm_) serves later minors of its major, PTX (compute_) all later capabilities.
    """
    for kind, first, second in re.findall(r"(sm|compute)_(\d+)(\d)", " ".join(built_for)):
        able = (int(first), int(second)) <= (major, minor)
        if able and (kind == "compute" or int(first) == major):
            return True
    return not built_for  # nothing is said: nothing is ruled out


def _mps(run: Run) -> Finding:
    import torch

    from poolblend.training.devices import resolve_precision

    device, fix = torch.device("mps"), "update macOS and torch"
    try:
        precision = resolve_precision(run.config.train.precision, device)
        error = _wrong_numbers(device, precision)
    except Exception as failed:
        return failure(failed, fix, "mps")
    if error:
        return fail(error, fix, "mps")
    return ok(f"training step in {precision} is right", "mps")


def _none() -> Finding:
    """Why torch sees no GPU: there is none, it is hidden, or driver and build do not fit."""
    import torch

    driver = nvidia_driver()
    if driver is None:
        return ok("none; the CPU trains")
    if torch.version.cuda is None:
        return warn(
            f"torch {torch.__version__} is built without CUDA, so the GPU ({driver}) idles",
            CUDA_BUILD,
        )
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible in ("", "-1"):
        return ok(f"hidden by CUDA_VISIBLE_DEVICES={visible}; the CPU trains")
    try:
        torch.cuda.init()
        reason = f"torch sees no GPU (CUDA_VISIBLE_DEVICES={visible})"
    except Exception as error:
        reason = failure(error, ON_CPU).found
    return fail(
        f"{reason}; torch {torch.__version__} is built for CUDA {torch.version.cuda}, the driver "
        f"is {driver}",
        f"update the driver, or install the build of torch for it; {ON_CPU}",
    )


def nvidia_driver() -> str | None:
    """The first NVIDIA GPU and its driver as the system tells; None where there is none."""
    tool = shutil.which("nvidia-smi")
    if tool:
        query = [tool, "--query-gpu=name,driver_version", "--format=csv,noheader"]
        with suppress(OSError, subprocess.SubprocessError):
            done = subprocess.run(query, check=False, capture_output=True, text=True, timeout=5)
            if done.returncode == 0 and done.stdout.strip():
                return done.stdout.splitlines()[0]
    file = Path("/proc/driver/nvidia/version")
    return file.read_text(encoding="utf-8").splitlines()[0] if file.is_file() else None


def _wrong_numbers(device: torch.device, precision: str) -> str | None:
    """What is wrong with the device's results; None where they are right."""
    from poolblend.training import trial

    error = trial.deviation(device, precision)
    allowed = trial.TOLERANCES[precision]
    if error <= allowed:
        return None
    if math.isnan(error):
        return f"a training step in {precision} gives NaN"
    return (
        f"a training step in {precision} is off by {error:.2g} of its size, at most {allowed:g} "
        "is rounding"
    )


def _counted(number: float, noun: str) -> str:
    return f"{number:g} {noun}{'' if number == 1 else 's'}"

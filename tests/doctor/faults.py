"""Faults for the doctor to find: a function makes one thing wrong, a row says what is told."""

import errno
import fcntl
import os
import shutil
import sys
from collections import namedtuple
from contextlib import nullcontext
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from poolblend.doctor import devices, libraries, machine
from poolblend.loading.competition import open_store
from poolblend.training import trial

Usage = namedtuple("Usage", "total used free")


def refuse(error):
    def raises(*_, **__):
        raise error

    return raises


def file_in_the_way(patch, settings):
    store = open_store(settings)
    store.root.mkdir()
    (store.root / "models").write_text("not a folder")


def dangling_link(patch, settings):
    store = open_store(settings)
    store.root.mkdir()
    (store.root / "models").symlink_to("unmounted disk")


def read_only(patch, settings):
    patch.setattr(os, "fsync", refuse(OSError(errno.EROFS, "Read-only file system")))


def bytes_change(patch, settings):
    real = Path.read_bytes
    patch.setattr(Path, "read_bytes", lambda path: b"" if path.name == "renamed" else real(path))


def disk_full(patch, settings):
    patch.setattr(shutil, "disk_usage", lambda path: Usage(10**12, 10**12, 10**6))


def lock_not_kept(patch, settings):
    patch.setattr(fcntl, "flock", lambda file, how: None)


def lock_unknown(patch, settings):
    patch.setattr(fcntl, "flock", refuse(OSError(errno.ENOLCK, "No locks available")))


def cpu_computes_wrong(patch, settings):
    right = trial.trial_step

    def wrong(device, precision):
        return [t * (1 if precision == "fp64" else 2) for t in right(device, precision)]

    patch.setattr(trial, "trial_step", wrong)


def gpu(patch, step):
    """A CUDA device of the T4's kind, whose training step is `step`."""
    right = trial.trial_step
    patch.setattr(torch.cuda, "is_available", lambda: True)
    patch.setattr(torch.cuda, "device_count", lambda: 1)
    patch.setattr(torch.cuda, "device", lambda index: nullcontext())
    patch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    patch.setattr(torch.cuda, "mem_get_info", lambda index: (14e9, 16e9))
    patch.setattr(torch.cuda, "get_device_name", lambda index: "Tesla T4")
    patch.setattr(torch.cuda, "get_device_capability", lambda index: (7, 5))
    patch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_75", "sm_80"])
    patch.setattr(torch.version, "cuda", "12.8")
    patch.setattr(devices, "nvidia_driver", lambda: "Tesla T4, 535.10")
    on = {"cpu": right, "cuda": lambda device, precision: step(right, precision)}
    patch.setattr(trial, "trial_step", lambda device, precision: on[device.type](device, precision))


def on_cpu(right, precision):
    return right(torch.device("cpu"), precision)


def gpu_fails(patch, settings):
    gpu(patch, refuse(RuntimeError("CUDA error: unspecified launch failure")))


def gpu_computes_nan(patch, settings):
    gpu(patch, lambda right, precision: [t * float("nan") for t in on_cpu(right, precision)])


def gpu_computes_wrong(patch, settings):
    gpu(patch, lambda right, precision: [t * 1.1 for t in on_cpu(right, precision)])


def flash_attention_on_a_t4(patch, settings):
    gpu(patch, on_cpu)
    patch.setattr("poolblend.modeling.encoders.is_flash_attn_2_available", lambda: True)
    patch.setitem(settings.train.__dict__, "attention", "flash_attention_2")


def flash_attention_in_fp32(patch, settings):
    flash_attention_on_a_t4(patch, settings)
    patch.setitem(settings.train.__dict__, "precision", "fp32")


def driver_too_old(patch, settings):
    patch.setattr(torch.version, "cuda", "12.8")
    patch.setattr(torch.cuda, "init", refuse(RuntimeError("The NVIDIA driver is too old")))
    patch.setattr(devices, "nvidia_driver", lambda: "Tesla T4, 418.67")
    patch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def version_is(patch, library, found):
    real = libraries.version

    def version(name):
        if name != library:
            return real(name)
        if found is None:
            raise PackageNotFoundError(name)
        return found

    patch.setattr(libraries, "version", version)


def library_too_old(patch, settings):
    version_is(patch, "transformers", "4.57.1")


def library_missing(patch, settings):
    version_is(patch, "torch", None)
    patch.setitem(sys.modules, "torch", None)
    patch.delitem(sys.modules, "poolblend.jobs.rehearsal", raising=False)  # imports torch


def library_broken(patch, settings):
    patch.setitem(sys.modules, "psutil", None)


def python_too_old(patch, settings):
    patch.setattr(sys, "version_info", (3, 9, 18))


def backbone_folder(settings):
    return Path(settings.backbone.source)


def backbone_config_cut(patch, settings):
    (backbone_folder(settings) / "config.json").write_text('{"model_type": "be')


def backbone_weights_cut(patch, settings):
    path = backbone_folder(settings) / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])


def backbone_weights_nan(patch, settings):
    path = backbone_folder(settings) / "model.safetensors"
    tensors = load_file(path)
    next(t for name, t in tensors.items() if "layer.1.output" in name).fill_(float("nan"))
    save_file(tensors, path, {"format": "pt"})


def tokenizer_gone(patch, settings):
    for path in backbone_folder(settings).glob("tokenizer*"):
        path.unlink()


def backbone_too_short(patch, settings):
    patch.setattr("poolblend.modeling.backbone.n_positions", lambda encoder: 8)


def forward_pass_nan(patch, settings):
    nan = torch.full((2, 1), float("nan"))
    patch.setattr("poolblend.modeling.model.TextModel.forward", lambda model, batch: nan)


def out_of_memory(patch, settings):
    patch.setattr("poolblend.modeling.backbone.load", refuse(MemoryError()))


def train_table_gone(patch, settings):
    (settings.data_dir / "train.csv").unlink()


def folds_of_other_rows(patch, settings):
    path = open_store(settings).folds_path
    path.parent.mkdir(parents=True)
    path.write_text("id,fold\nr000,0\nr001,1\nr002,2\n")


ON_CPU = r"set CUDA_VISIBLE_DEVICES= \(empty\)"
# A fault, the check that finds it, what is found, and the fix.
FAULTS = [
    (file_in_the_way, "store", "models is not a folder, but one is needed", "move it away"),
    (dangling_link, "store", "models is not a folder, but one is needed", "move it away"),
    (read_only, "store", "cannot be written: Read-only file system", "permissions, or set"),
    (bytes_change, "store", "other bytes are read back than were written", "or set `store`"),
    (disk_full, "disk", "1 MB of .*; the next fold .* need 50 MB", "or set `store`"),
    (lock_not_kept, "store", "two processes got the same lock", "one process at a time"),
    (lock_unknown, "store", "two processes got the same lock", "local disk, or a mount with"),
    (cpu_computes_wrong, "cpu", r"is off by 1 \(relative\), more", "memory and the torch inst"),
    (gpu_fails, "gpu", "launch failure; .* built for CUDA 12.8, the driver is .*535.10", ON_CPU),
    (gpu_computes_nan, "gpu", "Tesla T4: a training step in fp16 gives NaN", ON_CPU),
    (gpu_computes_wrong, "gpu", "Tesla T4: .* in fp16 is off by 0.1", ON_CPU),
    (flash_attention_on_a_t4, "backbone", "capability 8.0 .*, and Tesla T4 has 7.5; set it", ""),
    (flash_attention_in_fp32, "backbone", "in bf16 and fp16 only, but .* is fp32; set", ""),
    (driver_too_old, "gpu", "driver is too old; .*CUDA 12.8, .*418.67", "update the driver"),
    (library_too_old, "libraries", "transformers is 4.57.1; transformers>=5.0 is", "pip install"),
    (library_broken, "memory", "psutil", "pip install -r requirements.txt"),
    (python_too_old, "python", "3.9.18; 3.11 to 3.13 are supported", "install Python 3.13"),
    (backbone_config_cut, "backbone", "tiny/config.json", "install it again"),
    (backbone_weights_cut, "backbone", "tiny cannot be read .* invalid header", "install it again"),
    (backbone_weights_nan, "backbone", "tiny.* not finite", "install it again"),
    (forward_pass_nan, "backbone", "a forward pass of tiny-mean-s42 gives nan", "install it again"),
    (tokenizer_gone, "backbone", "tiny.* tokenizer", "install it again"),
    (
        backbone_too_short,
        "backbone",
        "max_length is 16, but .*tiny reads at most 8",
        "correct what",
    ),
    (
        out_of_memory,
        "backbone",
        "out of memory; .* take a smaller backbone",
        "correct what is named",
    ),
    (train_table_gone, "tables", "no file .*train.csv", "correct the file that is named"),
    (folds_of_other_rows, "tables", "folds.csv was made .*use a new `run`", "correct the file"),
]


# --- what works, but could work better ------------------------------------------------------


def memory_taken(patch, settings):
    patch.setattr(machine, "free_memory", lambda: (0.5e9, 8e9))


def disk_small(patch, settings):
    patch.setattr(shutil, "disk_usage", lambda path: Usage(10**9, 10**9, 50_300_000))


def gpu_full(patch, settings):
    gpu(patch, on_cpu)
    patch.setattr(torch.cuda, "mem_get_info", lambda index: (1e3, 16e9))


def gpu_emulates_bf16(patch, settings):
    gpu(patch, on_cpu)
    patch.setitem(settings.train.__dict__, "precision", "bf16")


def gpu_without_cuda(patch, settings):
    patch.setattr(torch.version, "cuda", None)
    patch.setattr(devices, "nvidia_driver", lambda: "Tesla T4, 535.10")


def many_threads(patch, settings):
    patch.setattr(torch, "get_num_threads", lambda: 64)
    patch.setattr(devices, "usable_cores", lambda: 1.5)


def new_python(patch, settings):
    patch.setattr(sys, "version_info", (3, 99, 0))


def kernels_installed(patch, settings):
    versions = {"transformers": "5.2.0", "kernels": "0.10.0"}
    real = libraries.version
    patch.setattr(libraries, "version", lambda name: versions.get(name) or real(name))


WARNINGS = [
    (memory_taken, "memory", "500 MB of 8.0 GB free; training needs 1.0 GB", "smaller backbone"),
    (disk_small, "disk", "the 6 folds to train need 50 MB", "or set `store`"),
    (gpu_full, "gpu", "Tesla T4: 0 MB of 16.0 GB free, weights and optimizer", "nvidia-smi"),
    (
        gpu_emulates_bf16,
        "gpu",
        "train.precision is bf16, which Tesla T4 does not have and emulates slowly$",
        "^set it to auto",
    ),
    (gpu_without_cuda, "gpu", r"built without CUDA, so the GPU \(Tesla T4", "install a CUDA build"),
    (many_threads, "cpu", "threads: 64, cores: 1.5", "set OMP_NUM_THREADS=1:"),
    (new_python, "python", "3.99.0 is newer than what was tested", "use 3.13"),
    (kernels_installed, "libraries", "5.2.0 with the package kernels may run", "pip install -U"),
]

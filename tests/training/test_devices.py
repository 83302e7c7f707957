"""Devices: their precision, what they lack, and how they say that memory has run out."""

import pytest
import torch

from poolblend.errors import UserError
from poolblend.modeling.encoders import check_attention
from poolblend.training import devices
from poolblend.training.devices import check_precision, out_of_memory, resolve_precision


@pytest.fixture
def t4(monkeypatch):
    """A GPU without bf16 and flash attention, as far as torch says."""
    devices._warn_once.cache_clear()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: False)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla T4")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    monkeypatch.setattr("poolblend.modeling.encoders.is_flash_attn_2_available", lambda: True)


def test_auto_precision_is_what_the_device_computes_in(monkeypatch):
    cuda, cpu = torch.device("cuda"), torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: False)
    assert resolve_precision("auto", cuda) == "fp16"
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: True)
    assert resolve_precision("auto", cuda) == "bf16"
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    assert resolve_precision("auto", cpu) == "fp32"
    assert resolve_precision("fp32", cuda) == "fp32"
    assert resolve_precision("fp16", cpu) == "fp32"


def test_a_training_sets_whether_torch_is_deterministic(build, data, fitting):
    for on in (True, False):
        fitting(build(), data, deterministic=on)
        assert torch.are_deterministic_algorithms_enabled() == on


@pytest.mark.parametrize(
    "message",
    [
        "CUDA out of memory. Tried to allocate 2.00 GiB.",
        "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "MPS backend out of memory (MPS allocated: 9 GB)",
        "[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried",
    ],
)
def test_every_way_of_saying_that_memory_has_run_out_is_understood(message):
    assert out_of_memory(RuntimeError(message))


def test_other_errors_are_not_taken_for_a_lack_of_memory():
    assert out_of_memory(torch.OutOfMemoryError("anything"))
    assert not out_of_memory(RuntimeError("CUDA error: an illegal memory access was encountered"))
    assert not out_of_memory(ValueError("out of memory"))


def test_bf16_on_a_gpu_without_it_is_warned_of_once(t4, caplog):
    for _ in range(2):
        check_precision("bf16", "auto")
        check_precision("auto", "auto")
    (record,) = caplog.records
    assert record.message == (
        "train.precision is bf16, which Tesla T4 does not have and emulates slowly; set it to auto"
    )


def test_flash_attention_needs_a_gpu_that_has_it_and_half_precision(t4, monkeypatch):
    class Encoder:
        _supports_flash_attn = True

    with pytest.raises(UserError, match=r"capability 8.0 .* and Tesla T4 has 7.5; set it to auto$"):
        check_attention(Encoder(), "flash_attention_2")
    with pytest.raises(UserError, match=r"in bf16 and fp16 only, but the precision here is fp32"):
        check_precision("fp32", "flash_attention_2")
    check_precision("fp16", "flash_attention_2")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    check_attention(Encoder(), "flash_attention_2")

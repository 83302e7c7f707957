"""A fold model predicts in the precision that it was trained in, where the device has it."""

import logging

import numpy as np
import pytest

from poolblend import config
from poolblend.cards.fold import FoldFileHashes
from poolblend.jobs import foldmodels
from poolblend.jobs.foldmodels import _in_a_precision_that_works
from poolblend.training import devices
from rig.cards import FILE, fold_card

GOOD = np.array([[0.5]])


@pytest.fixture(autouse=True)
def _say_again():
    foldmodels._warn_once.cache_clear()


@pytest.fixture
def native(monkeypatch):
    """Says what the device computes in."""

    def native(precision):
        monkeypatch.setattr(devices, "native_precision", lambda device: precision)

    return native


def card(precision, wanted="auto", **fields):
    (member, *_) = config.load(None, [f"train.precision={wanted}"]).resolve_members()
    files = FoldFileHashes(weights=FILE, oof=FILE, others={})
    return fold_card(files, precision=precision, **fields).model_copy(update={"member": member})


def used(card, results=None):
    """The precisions that were tried; `results` are what computing in them gives or raises."""
    tried = []

    def compute(precision):
        tried.append(precision)
        result = (results or {}).get(precision, GOOD)
        if isinstance(result, Exception):
            raise result
        return result

    assert np.array_equal(_in_a_precision_that_works(compute, card), GOOD)
    return tried


@pytest.mark.parametrize(
    ("trained", "device", "expected"),
    [
        ("fp32", "bf16", "fp32"),  # thresholds were fitted to predictions in fp32
        ("bf16", "bf16", "bf16"),
        ("bf16", "fp16", "fp32"),
        ("bf16", "fp32", "fp32"),
        ("fp16", "fp32", "fp32"),
        ("fp16", "fp16", "fp16"),
    ],
)
def test_auto_follows_the_training_where_the_device_has_it(native, trained, device, expected):
    native(device)
    assert used(card(trained)) == [expected]


def test_a_precision_that_is_lacking_is_said_once(native, caplog):
    native("fp32")
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            used(card("bf16"))
    assert caplog.messages == [
        "models trained in bf16, which this device lacks, compute in fp32: predictions may differ "
        "by its rounding"
    ]


def test_what_the_config_asks_for_by_name_is_followed_on_any_device(native):
    native("fp32")
    assert used(card("bf16", wanted="bf16")) == ["bf16"]
    native("bf16")
    assert used(card("fp32", wanted="fp32")) == ["fp32"]


def test_a_model_that_cannot_compute_in_half_precision_was_and_is_in_fp32(native):
    native("bf16")
    assert used(card("fp32", fp32_only=True)) == ["fp32"]


@pytest.mark.parametrize(
    "failure", [np.array([[np.nan]]), RuntimeError("no such kernel"), np.array([[np.inf]])]
)
def test_where_half_precision_fails_here_fp32_is_used(native, caplog, failure):
    native("bf16")
    assert used(card("bf16"), {"bf16": failure}) == ["bf16", "fp32"]
    assert "fold 0 computes in fp32: in bf16 it fails" in caplog.text


def test_running_out_of_memory_is_not_taken_for_a_precision_that_fails(native):
    native("bf16")
    with pytest.raises(RuntimeError, match="out of memory"):
        used(card("bf16"), {"bf16": RuntimeError("CUDA out of memory.")})

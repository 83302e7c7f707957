"""Predictions: in the rows' order, whatever the batches, windows, columns and the memory."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from poolblend.modeling import backbone
from poolblend.modeling.model import build_model
from poolblend.training import prediction
from poolblend.training.batches import collate
from poolblend.training.objectives import choose_objective
from poolblend.training.prediction import BatchCache, predict
from rig.encoding import encode
from rig.trainings import weights

OBJECTIVE = choose_objective("binary")
TEXTS = ["the lovely day " * n for n in (1, 9, 3, 0, 30, 2)]


@pytest.mark.parametrize("mask", ["attention", "content", "none"])
def test_a_prediction_depends_neither_on_its_batch_nor_on_the_order_of_rows(
    build, data, predicted, mask
):
    model = build(mask=mask).train()
    before, state = weights(model), torch.get_rng_state()
    straight = predicted(model)
    rows = np.random.default_rng(0).permutation(len(straight))
    np.testing.assert_allclose(predicted(model, rows, 16), straight[rows], atol=1e-6)
    assert model.training
    assert torch.equal(weights(model), before)
    assert torch.equal(torch.get_rng_state(), state)


def test_half_precision_stays_near_full(build, predicted):
    model = build()
    full, half = predicted(model), predicted(model, precision="bf16")
    assert full.dtype == half.dtype == np.float64
    assert 0 < np.abs(full - half).max() < 0.05


def test_predicting_halves_its_batches_where_memory_is_small(
    build, data, predicted, small_memory, caplog
):
    model = build()
    expected = predicted(model)
    seen = small_memory(model, 10)
    np.testing.assert_allclose(predicted(model), expected, atol=1e-6)
    assert sum(n for n in seen if n <= 10) == len(data[1])
    assert "out of memory: predicting batches of" in caplog.text
    small_memory(model, 0)
    with pytest.raises(torch.OutOfMemoryError):
        predicted(model)


def test_an_error_that_is_not_of_memory_is_not_hidden(build, data, fitting, predicted, monkeypatch):
    model = build()

    def broken(**inputs):
        raise RuntimeError("the sizes do not fit")

    monkeypatch.setattr(model.encoder, "forward", broken)
    with pytest.raises(RuntimeError, match="sizes do not fit"):
        predicted(model)
    with pytest.raises(RuntimeError, match="sizes do not fit"):
        list(fitting(model, data).run())


@pytest.mark.parametrize("batch_tokens", [1, 40, 4096])
def test_long_texts_with_columns_are_predicted_in_their_order(tiny_backbone, batch_tokens):
    base = backbone.load(tiny_backbone)
    torch.manual_seed(0)
    model, _ = build_model(
        base,
        pooler="mean",
        pooler_args={},
        mask="attention",
        n_outputs=1,
        n_columns=2,
        dropout=0.0,
        norm="none",
    )
    model.head.linear.weight.data.normal_()
    columns_NF = np.random.default_rng(0).normal(size=(len(TEXTS), 2)).astype(np.float32)
    encoded = replace(encode([TEXTS], base.tokenizer, 12, windows=(4, None)), columns_NF=columns_NF)
    rows = np.array([4, 0, 3, 5, 1])
    pred_NK = predict(model, encoded, rows, OBJECTIVE, batch_tokens=batch_tokens, precision="fp32")
    model.eval()
    with torch.inference_mode():
        alone = [model(collate(encoded, np.array([row]))).sigmoid()[:, -1] for row in rows]
    np.testing.assert_allclose(pred_NK[:, -1], torch.cat(alone).numpy(), atol=1e-6)
    assert len({*pred_NK[:, -1].round(6).tolist()}) == len(rows)


class Casts(TorchDispatchMode):
    """Counts how often each of the weights is converted."""

    def __init__(self, weights):
        super().__init__()
        self.weights, self.counts = {id(weight) for weight in weights}, Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten._to_copy.default and id(args[0]) in self.weights:
            self.counts[id(args[0])] += 1
        return func(*args, **kwargs or {})


@pytest.mark.parametrize("frozen", [False, True])
def test_half_precision_casts_each_weight_once_for_all_batches(build, predicted, frozen):
    model = build()
    model.encoder.requires_grad_(not frozen)
    expected = predicted(model, precision="bf16")
    with Casts(model.encoder.parameters()) as casts:
        np.testing.assert_array_equal(predicted(model, precision="bf16"), expected)
    assert set(casts.counts.values()) == {1}
    assert [p.requires_grad for p in model.encoder.parameters()] == [not frozen] * len(
        [*model.encoder.parameters()]
    )


# --- batches kept for several models ------------------------------------------------------------


@pytest.fixture
def encoded(tiny_backbone):
    base = backbone.load(tiny_backbone)
    return encode([TEXTS], base.tokenizer, 12, windows=(4, None))


def same(one, other):
    parts = zip(one, other, strict=True)
    return all(a is b or (a is not None and torch.equal(a, b)) for a, b in parts)


def test_a_kept_batch_is_the_one_that_collate_makes(encoded):
    cache, rows = BatchCache(), np.array([4, 0, 3])
    for how in ({}, {"window_tokens": 12}):
        made = cache(encoded, rows, **how)
        fresh = collate(encoded, rows, **how)
        assert same(made._replace(windows=None), fresh._replace(windows=None))
        assert same(made.windows[:3], fresh.windows[:3])
        assert made.windows.most == fresh.windows.most
        assert cache(encoded, rows, **how) is made
    assert cache(encoded, rows[::-1]) is not made


def test_a_kept_batch_has_the_columns_of_its_model(encoded):
    cache, rows = BatchCache(), np.array([4, 0, 3])
    plain = cache(encoded, rows)
    for fill in (1.0, 2.0):
        columns_NF = np.full((len(TEXTS), 2), fill, dtype=np.float32)
        batch = cache(replace(encoded, columns_NF=columns_NF), rows)
        assert batch.ids_BT is plain.ids_BT
        assert batch.columns_BF.equal(torch.full((3, 2), fill))
    assert cache(encoded, rows).columns_BF is None


def test_batches_of_another_table_or_beyond_the_limit_are_not_kept(encoded):
    rows = np.array([4, 0, 3])
    cache = BatchCache()
    first = cache(encoded, rows)
    other = replace(encoded, ids=tuple(ids + 1 for ids in encoded.ids))
    assert cache(other, rows).ids_BT.equal(collate(other, rows).ids_BT)
    assert cache(encoded, rows) is not first
    small = BatchCache(limit=10)
    assert small(encoded, rows) is not small(encoded, rows)


def test_a_first_batch_that_warms_the_device_up_counts_like_the_others(monkeypatch):
    now = iter([0.0, 10.0, 13.0])  # the start, the end of the first batch, the end of the third
    monkeypatch.setattr(prediction.time, "perf_counter", lambda: next(now))
    called = []
    stopwatch = prediction.Stopwatch(lambda: called.append(1))
    for _ in range(3):
        stopwatch()
    assert stopwatch.seconds() == 4.5
    assert len(called) == 3


def test_a_pass_of_one_batch_is_timed_whole(monkeypatch):
    now = iter([0.0, 10.0, 10.5])
    monkeypatch.setattr(prediction.time, "perf_counter", lambda: next(now))
    stopwatch = prediction.Stopwatch()
    stopwatch()
    assert stopwatch.seconds() == 10.5

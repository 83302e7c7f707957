import numpy as np
import pytest
import torch

from poolblend.errors import UserError
from poolblend.training.devices import resolve_precision
from poolblend.training.objectives import choose_objective
from poolblend.training.prediction import predict
from rig.trainings import Killed, kill_after, weights, written

OBJECTIVE = choose_objective("binary")


@pytest.fixture
def train(fitting):
    def train(model, data, rows=None, **changes):
        fit = fitting(model, data, rows, **changes)
        epochs = list(fit.run())
        fit.finish()
        return epochs

    return train


def run(model, data, batch_tokens=4096, precision="fp32"):
    encoded, y = data
    return predict(
        model, encoded, np.arange(len(y)), OBJECTIVE, batch_tokens=batch_tokens, precision=precision
    )


@pytest.mark.parametrize("norm", ["none", "layer", "batch"])
def test_training_learns_what_the_words_tell(build, data, train, norm):
    model = build(norm=norm)
    epochs = train(model, data, epochs=6, lr=5e-3)
    assert [epoch.number for epoch in epochs] == [1, 2, 3, 4, 5, 6]
    assert epochs[-1].loss < 0.5 * epochs[0].loss
    assert ((run(model, data)[:, 0] > 0.5) == data[1]).mean() > 0.95


def test_the_same_seed_gives_the_same_bits(build, data, train):
    one, same, other = build(), build(), build()
    torch.manual_seed(7)
    train(one, data)
    torch.manual_seed(7)
    train(same, data)
    torch.manual_seed(7)
    train(other, data, seed=2)
    assert torch.equal(weights(one), weights(same))
    assert not torch.equal(weights(one), weights(other))


def test_only_the_named_rows_are_trained_on(build, data, train):
    encoded, y = data
    poisoned = y.copy()
    poisoned[40:] = 1 - poisoned[40:]
    models = []
    for labels in (y, poisoned):
        model = build()
        torch.manual_seed(7)
        train(model, (encoded, labels), rows=np.arange(40))
        models.append(weights(model))
    assert torch.equal(*models)


def test_accumulated_batches_make_the_step_of_one_large_batch(build, data, train):
    whole, parts = build(dropout=0), build(dropout=0)
    for model in (whole, parts):
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
    options = dict(epochs=1, optimizer="sgd", schedule="constant", warmup=0.0)
    train(whole, data, batch_size=64, **options)
    train(parts, data, batch_size=8, accumulation=8, **options)
    torch.testing.assert_close(weights(whole), weights(parts), rtol=0, atol=1e-5)


def test_predictions_come_back_in_the_order_of_the_rows(build, data, train):
    encoded, y = data
    model = build()
    train(model, data)
    straight = run(model, data)
    rows = np.random.default_rng(0).permutation(len(y))
    shuffled = predict(model, encoded, rows, OBJECTIVE, batch_tokens=64, precision="fp32")
    np.testing.assert_allclose(shuffled, straight[rows], atol=1e-6)


@pytest.mark.parametrize("mask", ["attention", "content", "none"])
def test_a_prediction_does_not_depend_on_the_batch_it_is_in(build, data, mask):
    model = build(mask=mask)
    np.testing.assert_allclose(
        run(model, data, batch_tokens=16), run(model, data, batch_tokens=4096), atol=1e-6
    )


def test_predicting_leaves_model_and_generator_as_they_were(build, data, train):
    model = build().train()
    before, state = weights(model), torch.get_rng_state()
    run(model, data)
    assert model.training
    assert torch.equal(weights(model), before)
    assert torch.equal(torch.get_rng_state(), state)


def test_half_precision_stays_near_full(build, data, train):
    model = build()
    train(model, data, precision="bf16", epochs=6)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    full, half = run(model, data), run(model, data, precision="bf16")
    assert full.dtype == half.dtype == np.float64
    assert 0 < np.abs(full - half).max() < 0.05


def test_gradient_checkpointing_changes_memory_only(build, data, train):
    plain, checkpointed = build(), build()
    for model, on in ((plain, False), (checkpointed, True)):
        torch.manual_seed(7)
        train(model, data, gradient_checkpointing=on)
    torch.testing.assert_close(weights(plain), weights(checkpointed), rtol=0, atol=1e-5)


def test_each_fit_has_its_own_precision(build, data, train):
    for precision in ("bf16", "fp32", "bf16"):
        assert len(train(build(), data, precision=precision, epochs=1)) == 1


@pytest.mark.parametrize("step", [1, 7, 8, 9, 23])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"accumulation": 2, "precision": "bf16", "schedule": "cosine"},
        {"optimizer": "sgd", "layer_decay": 0.5},
        {"optimizer": "adam", "clip": None},
    ],
    ids=["adamw", "bf16", "sgd", "adam"],
)
def test_a_training_taken_up_elsewhere_ends_in_the_same_bits(
    build, data, train, fitting, changes, step
):
    whole, killed, resumed = build(norm="batch"), build(norm="batch"), build(7, norm="batch")
    torch.manual_seed(7)
    told = train(whole, data, **changes)
    torch.manual_seed(7)
    first = fitting(killed, data, **changes)
    step = min(step, first.n_steps - 1)
    with pytest.raises(Killed):
        list(first.run(after_step=kill_after(step)))
    state = written(first.state())
    torch.manual_seed(99)
    rest = fitting(resumed, data, **changes)
    rest.restore(state)
    assert rest.steps_done == step
    told_again = list(rest.run())
    assert torch.equal(weights(whole), weights(resumed))
    for name, buffer in whole.named_buffers():
        assert torch.equal(buffer, resumed.get_buffer(name))
    assert [e.loss for e in told[-len(told_again) :]] == [e.loss for e in told_again]


def test_a_state_taken_at_an_epochs_end_yields_that_epoch_again(build, data, fitting):
    fit = fitting(build(), data)
    epochs = fit.run()
    first = next(epochs)
    state = written(fit.state())
    again = fitting(build(), data)
    again.restore(state)
    assert next(again.run()) == first


def test_dropout_goes_on_where_it_was(build, data, fitting):
    """Without the generators' state, the rest of a training would drop other units."""
    fit = fitting(build(), data)
    with pytest.raises(Killed):
        list(fit.run(after_step=kill_after(3)))
    state = written(fit.state())
    ends = []
    for forget in (False, True):
        model = build()
        rest = fitting(model, data)
        rest.restore(state)
        if forget:
            torch.manual_seed(99)
        list(rest.run())
        ends.append(weights(model))
    assert not torch.equal(*ends)


def small_memory(model, rows, monkeypatch):
    """A device that holds `rows` rows at most."""
    forward = model.encoder.forward
    seen = []

    def guarded(input_ids, **inputs):
        seen.append(len(input_ids))
        if len(input_ids) > rows:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return forward(input_ids=input_ids, **inputs)

    monkeypatch.setattr(model.encoder, "forward", guarded)
    return seen


@pytest.mark.parametrize("accumulation", [1, 2])
def test_a_batch_too_large_for_the_memory_is_halved_and_the_step_stays_the_same(
    build, data, train, fitting, monkeypatch, caplog, accumulation
):
    options = dict(batch_size=16, accumulation=accumulation, epochs=1, optimizer="sgd")
    large, small = build(dropout=0), build(dropout=0)
    for model in (large, small):
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
    train(large, data, **options)
    seen = small_memory(small, 5, monkeypatch)
    fit = fitting(small, data, **options)
    list(fit.run())
    assert fit.pieces == 4
    assert seen[:2] == [16, 8]
    assert max(seen[2:]) == 4
    rows = f"batches of 4 rows, {4 * accumulation} of them to a step"
    assert f"out of memory: going on with {rows}" in caplog.text
    torch.testing.assert_close(weights(small), weights(large), rtol=0, atol=1e-5)


def test_what_was_halved_stays_so_when_it_is_taken_up(build, data, fitting, monkeypatch):
    model = build()
    small_memory(model, 5, monkeypatch)
    fit = fitting(model, data)
    with pytest.raises(Killed):
        list(fit.run(after_step=kill_after(2)))
    model = build()
    seen = small_memory(model, 5, monkeypatch)
    again = fitting(model, data)
    again.restore(written(fit.state()))
    list(again.run())
    assert max(seen) == 4


@pytest.mark.parametrize(("norm", "fewest"), [("none", 1), ("batch", 2)])
def test_a_memory_too_small_for_the_fewest_rows_ends_the_training(
    build, data, train, monkeypatch, norm, fewest
):
    model = build(norm=norm)
    seen = small_memory(model, 0, monkeypatch)
    with pytest.raises(torch.OutOfMemoryError):
        train(model, data)
    assert seen == [n for n in (8, 4, 2, 1) if n >= fewest]


def test_predicting_halves_its_batches_too(build, data, monkeypatch, caplog):
    model = build()
    expected = run(model, data)
    seen = small_memory(model, 10, monkeypatch)
    np.testing.assert_allclose(run(model, data), expected, atol=1e-6)
    assert sum(n for n in seen if n <= 10) == len(data[1])
    assert "out of memory: predicting batches of" in caplog.text
    small_memory(model, 0, monkeypatch)
    with pytest.raises(torch.OutOfMemoryError):
        run(model, data)


def test_an_error_that_is_not_of_memory_is_not_hidden(build, data, train, monkeypatch):
    model = build()

    def broken(**inputs):
        raise RuntimeError("the sizes do not fit")

    monkeypatch.setattr(model.encoder, "forward", broken)
    for work in (train, run):
        with pytest.raises(RuntimeError, match="sizes do not fit"):
            work(model, data)


@pytest.mark.filterwarnings("ignore:.*lr_scheduler")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_loss_that_is_not_finite_stops_with_what_to_do(build, data, train, precision):
    model = build()
    with torch.no_grad():
        model.encoder.embeddings.word_embeddings.weight.fill_(float("nan"))
    cure = "lower train.lr" + ", or set train.precision=fp32" * (precision == "bf16")
    with pytest.raises(UserError, match=f"the training loss became nan in epoch 1; {cure}$"):
        train(model, data, precision=precision)


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

"""The loop: what it learns, that it resumes to the same bits, and what it does without memory."""

import pytest
import torch

from poolblend.errors import UserError
from rig.trainings import Killed, kill_after, weights, written


@pytest.fixture
def train(fitting):
    """Trains a model, from one state of torch's generator on; its epochs."""

    def train(model, data, **changes):
        torch.manual_seed(7)
        return list(fitting(model, data, **changes).run())

    return train


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("norm", ["none", "layer", "batch"])
def test_training_learns_what_the_words_tell(build, data, train, predicted, norm, precision):
    model = build(norm=norm)
    epochs = train(model, data, epochs=6, lr=5e-3, precision=precision)
    assert [epoch.number for epoch in epochs] == [1, 2, 3, 4, 5, 6]
    assert epochs[-1].loss < 0.5 * epochs[0].loss
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert ((predicted(model)[:, 0] > 0.5) == data[1]).mean() > 0.95


def test_the_same_seed_gives_the_same_bits_whatever_the_other_rows_labels(build, data, train):
    encoded, y = data
    poisoned = y.copy()
    poisoned[40:] = 1 - poisoned[40:]
    ends = []
    for labels, seed in ((y, 1), (poisoned, 1), (y, 2)):
        model = build()
        train(model, (encoded, labels), rows=range(40), seed=seed)
        ends.append(weights(model))
    one, same, other = ends
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_accumulated_batches_make_the_step_of_one_large_batch(build, data, train, without_dropout):
    whole, parts = (without_dropout(build(dropout=0)) for _ in range(2))
    options = dict(epochs=1, optimizer="sgd", schedule="constant", warmup=0.0)
    train(whole, data, batch_size=64, **options)
    train(parts, data, batch_size=8, accumulation=8, **options)
    torch.testing.assert_close(weights(whole), weights(parts), rtol=0, atol=1e-5)


def test_gradient_checkpointing_changes_memory_only(build, data, train):
    plain, checkpointed = build(), build()
    train(plain, data)
    train(checkpointed, data, gradient_checkpointing=True)
    torch.testing.assert_close(weights(plain), weights(checkpointed), rtol=0, atol=1e-5)


@pytest.mark.parametrize("step", [7, 8, 23])  # within an epoch, at its end, before the last
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"accumulation": 2, "precision": "bf16", "schedule": "cosine"},
        {"optimizer": "sgd"},
        {"optimizer": "adam", "clip": None},
    ],
    ids=["adamw", "bf16", "sgd", "adam"],
)
def test_a_training_resumed_elsewhere_ends_in_the_same_bits(
    build, data, train, fitting, changes, step
):
    whole, killed, resumed = build(norm="batch"), build(norm="batch"), build(7, norm="batch")
    epochs = train(whole, data, **changes)
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
    repeated = list(rest.run())
    assert torch.equal(weights(whole), weights(resumed))
    for name, buffer in whole.named_buffers():
        assert torch.equal(buffer, resumed.get_buffer(name))
    assert [e.loss for e in epochs[-len(repeated) :]] == [e.loss for e in repeated]


def test_a_state_taken_at_an_epochs_end_yields_that_epoch_again(build, data, fitting):
    fit = fitting(build(), data)
    first = next(fit.run())
    again = fitting(build(), data)
    again.restore(written(fit.state()))
    assert next(again.run()) == first


@pytest.mark.parametrize("accumulation", [1, 2])
def test_a_batch_too_large_for_the_memory_is_halved_and_the_step_stays_the_same(
    build, data, train, fitting, without_dropout, small_memory, caplog, accumulation
):
    options = dict(batch_size=16, accumulation=accumulation, epochs=1, optimizer="sgd")
    large, small = (without_dropout(build(dropout=0)) for _ in range(2))
    train(large, data, **options)
    seen = small_memory(small, 5)
    fit = fitting(small, data, **options)
    list(fit.run())
    assert fit.pieces == 4
    assert seen[:2] == [16, 8]
    assert max(seen[2:]) == 4
    rows = f"batches of 4 rows, {4 * accumulation} per step"
    assert f"out of memory: continuing with {rows}" in caplog.text
    torch.testing.assert_close(weights(small), weights(large), rtol=0, atol=1e-5)
    resumed = fitting(build(), data, **options)
    resumed.restore(written(fit.state()))
    assert resumed.pieces == 4


@pytest.mark.parametrize(("norm", "fewest"), [("none", 1), ("batch", 2)])
def test_a_memory_too_small_for_the_fewest_rows_ends_the_training(
    build, data, train, small_memory, norm, fewest
):
    model = build(norm=norm)
    seen = small_memory(model, 0)
    with pytest.raises(torch.OutOfMemoryError):
        train(model, data)
    assert seen == [n for n in (8, 4, 2, 1) if n >= fewest]


@pytest.mark.filterwarnings("ignore:.*lr_scheduler")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_loss_that_is_not_finite_stops_with_what_to_do(build, data, train, precision):
    model = build()
    with torch.no_grad():
        model.encoder.embeddings.word_embeddings.weight.fill_(float("nan"))
    cure = "lower train.lr" + ", or set train.precision=fp32" * (precision == "bf16")
    with pytest.raises(UserError, match=f"the training loss became nan in epoch 1; {cure}$"):
        train(model, data, precision=precision)

"""Whatever stops a training, the same command ends in the bytes of a run never stopped."""

import itertools
import os
import re
import signal
from contextlib import suppress

import pytest

from poolblend import config, pipeline
from poolblend.errors import Stopped, UserError
from poolblend.jobs import finetune
from poolblend.jobs.watch import Watch
from poolblend.loading.competition import open_store
from poolblend.store import Checkpoints
from poolblend.training.fit import Fit
from poolblend.training.gradients import Gradients

STEPS = 10  # of one fold: 2 epochs of 40 rows in batches of 8
# After which step it is killed, and how often a checkpoint is due: the others are slow tests.
FAST = [(1, None), (4, 3), (5, 1), (STEPS + 3, 3)]


def stored(settings):
    """Bytes of every OOF file and model, by name."""
    root = open_store(settings).root
    files = [*root.rglob("fold*.parquet"), *root.rglob("model.safetensors")]
    return {str(file.relative_to(root)): file.read_bytes() for file in sorted(files)}


def left(settings):
    """Names of what a finished run does not leave behind."""
    files = open_store(settings).root.rglob("*")
    return [path.name for path in files if re.search("checkpoints|tmp", path.name)]


@pytest.fixture(autouse=True)
def _in_the_foreground():
    """Listen to SIGINT, which a shell makes its background jobs ignore."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def two(toy, tmp_path):
    """The settings of a run, and of the same run in another store."""

    def make(*sets):
        return [
            config.load(toy(), [*sets, f"store={tmp_path / name}"]) for name in ("whole", "stopped")
        ]

    return make


@pytest.fixture
def at_step(monkeypatch):
    """Does something right after the n-th optimizer step of this process, whatever the fold."""
    once = Fit._train_step

    def install(n, do):
        counter = itertools.count(1)

        def step(self, *args):
            loss = once(self, *args)
            if next(counter) == n:
                do()
            return loss

        monkeypatch.setattr(Fit, "_train_step", step)

    return install


class Killed(BaseException):
    """Stands for SIGKILL as far as a test within one process can."""


def kill():
    raise Killed


def stop(number=signal.SIGTERM):
    os.kill(os.getpid(), number)


def train(settings, **chosen):
    pipeline.train(settings, poolers="max", folds="0,1", **chosen)


# An epoch ends with step 5; the second fold begins behind the last step.
@pytest.mark.parametrize(
    ("step", "steps"),
    [
        *FAST,
        *(
            pytest.param(step, steps, marks=pytest.mark.slow)
            for step in (1, 4, 5, 6, STEPS, STEPS + 3)
            for steps in (1, 3, None)
            if (step, steps) not in FAST
        ),
    ],
)
def test_a_killed_training_is_resumed_to_the_same_bytes(two, at_step, step, steps):
    whole, killed = two(*([] if steps is None else [f"checkpoints.steps={steps}"]))
    train(whole)
    at_step(step, kill)
    with pytest.raises(Killed):
        train(killed)
    train(killed)
    assert stored(killed) == stored(whole)
    assert left(killed) == []


def test_what_a_process_leaves_that_is_killed_at_a_folds_end_is_swept(two, monkeypatch):
    whole, killed = two("checkpoints.steps=3")
    train(whole)
    drop = Checkpoints.drop
    monkeypatch.setattr(Checkpoints, "drop", lambda self: (len(self) and kill()) or drop(self))
    with pytest.raises(Killed):
        train(killed)
    monkeypatch.undo()
    store = open_store(killed)
    assert "checkpoints" in left(killed)
    train(killed)
    assert left(killed) == []
    assert stored(killed) == stored(whole)
    assert store.fold("tiny-max-s42", 0).card().resumed_at_steps == ()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_finishes_the_step_keeps_it_and_says_how_to_continue(
    two, at_step, number, status, caplog
):
    whole, stopped = two()
    train(whole)
    before = signal.getsignal(number)
    at_step(3, lambda: stop(number))
    with pytest.raises(
        Stopped,
        match=rf"stopped by {number.name}; the same command continues \[1/2\] tiny-max-s42 fold 0 "
        rf"at step 3 of {STEPS}$",
    ) as caught:
        train(stopped)
    assert caught.value.status == status
    assert signal.getsignal(number) == before
    assert f"{number.name}: finishing the step at hand; once more to leave" in caplog.text
    (checkpoint,) = open_store(stopped).fold("tiny-max-s42", 0).checkpoints.folders()
    assert checkpoint.name == "step-00000003"
    with caplog.at_level("INFO", logger="poolblend"):
        train(stopped)
    assert f"tiny-max-s42 fold 0: resumes at step 3 of {STEPS}" in caplog.text
    assert stored(stopped) == stored(whole)
    card = open_store(stopped).fold("tiny-max-s42", 0).card()
    assert card.resumed_at_steps == (3,)
    assert [epoch.number for epoch in card.epochs] == [1, 2]
    assert card.epochs[0].score is not None


def test_a_second_signal_leaves_at_once(two, at_step):
    whole, stopped = two()
    train(whole)

    def twice():
        stop(signal.SIGINT)
        stop(signal.SIGINT)

    at_step(3, twice)
    with pytest.raises(KeyboardInterrupt):
        train(stopped)
    assert left(stopped) == []  # not even a checkpoint
    train(stopped)
    assert stored(stopped) == stored(whole)


def test_a_signal_while_predicting_loses_no_step(two, monkeypatch):
    whole, stopped = two("batch_tokens=64")
    train(whole)
    predict = finetune.predict

    def stopped_within(*args, after_batch, **given):
        return predict(*args, after_batch=lambda: (stop(), after_batch()), **given)

    monkeypatch.setattr(finetune, "predict", stopped_within)
    with pytest.raises(Stopped, match=f"at step 5 of {STEPS}"):
        train(stopped)
    monkeypatch.undo()
    train(stopped)
    assert stored(stopped) == stored(whole)


def test_signals_that_are_ignored_stay_so(two, at_step):
    (settings, _) = two()
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        at_step(3, lambda: stop(signal.SIGINT))
        train(settings)
    finally:
        signal.signal(signal.SIGINT, before)


class Clock:
    """A monotonic clock that moves one second at each look."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        self.now += 1.0
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("time.monotonic", clock)
    return clock


def test_a_training_stops_before_its_time_is_up_and_goes_on_with_more(two, clock):
    whole, limited = two()
    train(whole)
    runs = 0
    while len(stored(limited)) < 4:
        runs += 1
        end = clock.now + 40
        with suppress(Stopped):
            train(limited, time_limit=40)
        assert clock.now <= end
    assert runs > 2
    assert stored(limited) == stored(whole)


def test_the_time_limit_is_no_failure(two, clock):
    settings, _ = two()
    line = "stopped before the time limit; the same command continues"
    with pytest.raises(Stopped, match=line) as caught:
        train(settings, time_limit=40)
    assert caught.value.status == 0


def test_what_is_finished_at_the_time_limit_can_be_blended(toy, at_step, monkeypatch):
    settings = config.load(toy())
    due, is_up = Watch.due, []
    monkeypatch.setattr(
        Watch, "due", lambda self, *_: Stopped("stopped", 0) if is_up else due(self)
    )
    at_step(4 * STEPS + 2, lambda: is_up.append(True))  # in the second member's second fold
    with pytest.raises(Stopped):
        pipeline.train(settings, time_limit=3600)
    blend = pipeline.blend(settings)
    assert blend.matrix.members == ("tiny-mean-s42",)
    assert "Not in this blend: tiny-max-s42 lacks fold 1, 2 of 3." in str(blend)


def test_a_checkpoint_of_other_settings_is_named_and_kept(two, at_step):
    whole, changed = two("train.lr=0.002")
    train(whole)
    other = changed.model_copy(update={"train": changed.train.model_copy(update={"lr": 0.001})})
    at_step(3, stop)
    with pytest.raises(Stopped):
        train(other)
    with pytest.raises(
        UserError,
        match=r"tiny-max-s42 fold 0 has a checkpoint of another training: train.lr was 0.001, is "
        r"0.002\. Train it",
    ):
        train(changed)
    assert len(open_store(changed).fold("tiny-max-s42", 0).checkpoints) == 1
    train(changed, overwrite=True)
    assert stored(changed) == stored(whole)


def test_replacing_a_stale_fold_is_resumed_too(two, at_step):
    whole, again = two()
    train(whole)
    train(again.model_copy(update={"max_length": 12}))
    at_step(4, stop)
    with pytest.raises(Stopped):
        train(again, overwrite=True)
    train(again, overwrite=True)
    assert stored(again) == stored(whole)
    assert open_store(again).fold("tiny-max-s42", 0).card().resumed_at_steps == (4,)


def test_a_damaged_fold_is_refused_by_name_until_it_is_to_be_replaced(two):
    whole, damaged = two()
    train(whole)
    train(damaged)
    path = open_store(damaged).fold_folder("tiny-max-s42", 1) / "model.safetensors"
    path.write_bytes(b"")
    for work in (train, pipeline.blend):
        with pytest.raises(
            UserError,
            match=f"{path} is damaged.*; train tiny-max-s42 fold 1 again with --overwrite",
        ):
            work(damaged)
    train(damaged, overwrite=True)
    assert stored(damaged) == stored(whole)


def test_a_disk_too_full_for_checkpoints_ends_no_training(two, monkeypatch, caplog):
    whole, full = two()
    train(whole)

    def refuse(*_):
        raise UserError("could not write: No space left on device")

    monkeypatch.setattr("poolblend.store.Checkpoints.save", refuse)
    train(full)
    assert "no checkpoint: could not write: No space left on device" in caplog.text
    assert stored(full) == stored(whole)


def test_a_signal_that_finds_no_room_for_a_checkpoint_says_where_it_resumes(
    two, monkeypatch, at_step
):
    _, full = two()

    def refuse(*_):
        raise UserError("could not write: No space left on device")

    monkeypatch.setattr("poolblend.store.Checkpoints.save", refuse)
    at_step(3, stop)
    with pytest.raises(Stopped, match="the same command continues at the fold's first step"):
        train(full)


@pytest.mark.parametrize("what", ["position", "rates"])
def test_a_checkpoint_that_cannot_be_resumed_from_is_one_line(two, at_step, what):
    _, settings = two()
    at_step(3, stop)
    with pytest.raises(Stopped):
        train(settings)
    checkpoints = open_store(settings).fold("tiny-max-s42", 0).checkpoints
    found = checkpoints.newest()
    rest = {key: value for key, value in found.card.rest.items() if key != what}

    def make_card(place, state):
        return found.card.model_copy(update={"rest": rest, "place": place, "state": state})

    checkpoints.save(3, found.tensors(), make_card)
    with pytest.raises(
        UserError, match=f"cannot be resumed from .*{what}.*delete {checkpoints.folder}"
    ):
        train(settings)


def test_by_the_clock_checkpoints_come_within_an_epoch(two, at_step, clock):
    _, settings = two("checkpoints.minutes=0.1")  # six looks at the clock
    at_step(4, kill)
    with pytest.raises(Killed):
        train(settings)
    assert open_store(settings).fold("tiny-max-s42", 0).checkpoints.folders()


def test_the_card_of_a_fold_says_how_its_batches_were_cut(toy, monkeypatch, caplog):
    import torch

    whole = Gradients._add_up

    def small(self, parts):
        if max(map(len, parts)) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return whole(self, parts)

    monkeypatch.setattr(Gradients, "_add_up", small)
    settings = config.load(toy())
    pipeline.train(settings, poolers="max", folds="0")
    assert open_store(settings).fold("tiny-max-s42", 0).card().batches_cut_into == 2
    assert "out of memory: continuing with batches of 4 rows, 2 per step" in caplog.text

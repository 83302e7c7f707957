"""What trackers are sent of a training, and that the training is the same with and without them."""

import accelerate.tracking
import pytest

from poolblend import config, pipeline
from poolblend.errors import UserError
from poolblend.jobs import tracking
from poolblend.loading.competition import open_store
from poolblend.training.fit import Fit

MEMBER = "tiny-mean-s42"
STEPS = 10  # of a fold: 40 rows in batches of 8, two epochs


class Recorder:
    """Stands for one of accelerate's trackers, and records its calls."""

    def __init__(self, made, *given, fails_at=None, **named):
        self.given, self.named, self.fails_at = given, named, fails_at
        self.settings, self.logged, self.finished = [], [], 0
        made.append(self)

    def start(self):
        if self.fails_at == "start":
            raise ConnectionError("no network")

    def store_init_configuration(self, values):
        self.settings.append(values)

    def log(self, values, step):
        if self.fails_at == step:
            raise ConnectionError("no\nnetwork")
        self.logged.append((step, values))

    def finish(self):
        self.finished += 1

    def steps(self, key):
        return [step for step, values in self.logged if key in values]


@pytest.fixture
def recorded(monkeypatch):
    """Makes each of accelerate's trackers a recorder; the list of those made."""
    made = []

    def install(**how):
        monkeypatch.setattr(tracking, "find_spec", lambda name: name)
        for name in ("TensorBoardTracker", "WandBTracker", "MLflowTracker"):
            monkeypatch.setattr(
                accelerate.tracking, name, lambda *a, **k: Recorder(made, *a, **how, **k)
            )
        return made

    return install


def train(path, tracker, *sets, folds="0"):
    settings = config.load(path, ["members=[mean]", f"tracking={tracker}", *sets])
    pipeline.train(settings, folds=folds)
    return settings


def test_tensorboard_holds_the_losses_rates_and_scores_of_the_card(toy, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    path = toy()
    settings = train(path, "tensorboard")
    store = open_store(settings)
    assert store.tracking_folder == tmp_path / "store" / "tracking" / "toy"
    events = EventAccumulator(str(store.tracking_folder / f"{MEMBER}-fold0"))
    events.Reload()
    sent = {
        tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]
    }
    assert [step for step, _ in sent["loss"]] == list(range(1, STEPS + 1))
    rates = [rate for _, rate in sent["learning rate"]]
    assert max(rates) == pytest.approx(settings.train.lr)
    assert rates[-1] == pytest.approx(settings.train.lr / 9)  # linear, after one step of warm-up
    card = store.fold(MEMBER, 0).card()
    for tag, key in (("epoch loss", "loss"), ("score", "score")):
        assert [step for step, _ in sent[tag]] == [STEPS // 2, STEPS]
        assert [value for _, value in sent[tag]] == pytest.approx(
            [getattr(e, key) for e in card.epochs]
        )

    plain = open_store(train(path, "none", f"store={tmp_path / 'plain'}"))
    untracked = plain.fold(MEMBER, 0).card()
    assert untracked.inputs == card.inputs
    assert (untracked.files.weights, untracked.files.oof) == (card.files.weights, card.files.oof)


def test_a_run_holds_its_members_settings_and_a_resumed_fold_continues_at_its_step(
    toy, recorded, monkeypatch
):
    made, path, train_step = recorded(), toy(), Fit._train_step

    def stop_at_step_8(self, *args):
        if self.steps_done == 8:
            raise KeyboardInterrupt
        train_step(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Fit, "_train_step", stop_at_step_8)
        with pytest.raises(KeyboardInterrupt):
            train(path, "tensorboard", "checkpoints.steps=2", folds="1")
    train(path, "tensorboard", "checkpoints.steps=2", folds="1")
    first, second = made
    (settings,) = first.settings
    assert first.given == (f"{MEMBER}-fold1",)
    assert (settings["fold"], settings["pooler"], settings["train.lr"]) == (1, "mean", 1e-3)
    assert settings["train.lora"] == "null"
    assert all(isinstance(value, str | int | float) for value in settings.values())
    assert first.steps("loss") == list(range(1, 9))
    assert second.steps("loss") == list(range(8, STEPS + 1))  # the last checkpoint is of step 7
    assert second.named["purge_step"] == 8
    assert second.settings == []
    assert (first.finished, second.finished) == (1, 1)


@pytest.mark.parametrize("fails_at", ["start", 3, STEPS])
def test_a_failing_tracker_is_warned_of_once_and_ends_no_training(toy, recorded, caplog, fails_at):
    recorded(fails_at=fails_at)
    settings = train(toy(), "tensorboard")
    assert open_store(settings).fold(MEMBER, 0).card() is not None
    lines = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert lines == [
        "tracking failed, the training continues without it: ConnectionError: no network"
    ]


def test_a_long_training_sends_only_so_many_losses():
    follower, made = tracking.Follower(every=5), []
    follower.tracker = Recorder(made)
    for n in range(1, 101):
        follower.step(0.5, 0.1, n)
    assert made[0].steps("loss") == list(range(5, 101, 5))


def test_a_missing_package_is_an_error_before_anything_is_made(toy, monkeypatch, tmp_path):
    monkeypatch.setattr(tracking, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="^tracking: mlflow is not installed; pip install mlflow$"):
        train(toy(), "mlflow")
    assert not (tmp_path / "store").exists()


def test_wandb_and_mlflow_keep_their_files_in_the_store(toy, recorded, monkeypatch):
    made, path = recorded(), toy()
    for key in ("WANDB_API_KEY", "WANDB_MODE", "MLFLOW_TRACKING_URI", "MLFLOW_LOGGING_LEVEL"):
        monkeypatch.delenv(key, raising=False)
    environment = {}
    monkeypatch.setattr(tracking.os, "environ", environment)

    def follow(tracker):
        settings = config.load(path, ["members=[mean]", f"tracking={tracker}"])
        (member,) = settings.resolve_members()
        store = open_store(settings)
        tracking.follow(settings, store, member, 0, {}, n_steps=8, steps_done=0).close()
        return made[-1], store.tracking_folder

    run, folder = follow("wandb")
    assert (run.given, run.named["name"]) == (("toy",), f"{MEMBER}-fold0")
    assert (run.named["mode"], run.named["dir"]) == ("offline", str(folder))
    environment["WANDB_API_KEY"] = "x"
    assert follow("wandb")[0].named["mode"] == "online"
    environment["WANDB_MODE"] = "disabled"
    assert follow("wandb")[0].named["mode"] == "disabled"
    run, folder = follow("mlflow")
    assert (run.given, run.named["run_name"]) == (("toy",), f"{MEMBER}-fold0")
    assert environment["MLFLOW_TRACKING_URI"] == f"sqlite:///{folder / 'mlflow.db'}"
    environment["MLFLOW_TRACKING_URI"] = "http://elsewhere"
    follow("mlflow")
    assert environment["MLFLOW_TRACKING_URI"] == "http://elsewhere"

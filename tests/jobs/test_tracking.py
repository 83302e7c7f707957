"""What trackers are told of a training, and that the training is the same with and without them."""

import sys
from types import SimpleNamespace

import accelerate.tracking
import pytest

from poolblend import config, pipeline
from poolblend.errors import UserError
from poolblend.jobs import tracking
from poolblend.loading.competition import open_store
from poolblend.training.fit import Fit

MEMBER = "tiny-mean-s42"
STEPS = 10  # of a fold: 40 rows in batches of 8, two epochs
QUICK = ["members=[mean]"]


class Recorder:
    """Stands for one of accelerate's trackers, and remembers all that it is told."""

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
    settings = config.load(path, [*QUICK, f"tracking={tracker}", *sets])
    pipeline.train(settings, folds=folds)
    return settings


def outcome(store):
    card = store.fold_card(MEMBER, 0)
    return card["weights"], card["oof"], card["inputs"]


def test_tensorboard_reads_the_losses_rates_and_scores_that_the_card_tells(toy, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    settings = train(toy(), "tensorboard")
    store = open_store(settings)
    assert store.tracking_folder == tmp_path / "store" / "tracking" / "toy"
    events = EventAccumulator(str(store.tracking_folder / f"{MEMBER}-fold0"))
    events.Reload()
    told = {
        tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]
    }
    assert [step for step, _ in told["loss"]] == list(range(1, STEPS + 1))
    rates = [rate for _, rate in told["learning rate"]]
    assert max(rates) == pytest.approx(settings.train.lr)
    assert rates[-1] == pytest.approx(settings.train.lr / 9)  # linear, after one step of warm-up
    epochs = store.fold_card(MEMBER, 0)["epochs"]
    ends = [STEPS // 2, STEPS]
    for tag, key in (("epoch loss", "loss"), ("score", "score")):
        assert [step for step, _ in told[tag]] == ends
        assert [value for _, value in told[tag]] == pytest.approx([e[key] for e in epochs])


def test_tracking_changes_no_bit_and_is_no_input_of_a_fold(toy, tmp_path, recorded):
    made = recorded()
    path = toy()
    tracked = train(path, "tensorboard", f"store={tmp_path / 'a'}")
    plain = train(path, "none", f"store={tmp_path / 'b'}")
    assert len(made) == 1
    assert outcome(open_store(tracked)) == outcome(open_store(plain))


def test_a_run_is_described_by_its_members_settings(toy, recorded):
    (made,) = (recorded(),)
    train(toy(), "tensorboard", folds="1")
    (told,) = made[0].settings
    assert made[0].given == (f"{MEMBER}-fold1",)
    assert (told["fold"], told["pooler"], told["train.lr"]) == (1, "mean", 1e-3)
    assert told["train.lora"] == "null"
    assert all(isinstance(value, str | int | float) for value in told.values())
    assert made[0].finished == 1


@pytest.mark.parametrize("fails_at", ["start", 3, STEPS])
def test_a_tracker_that_fails_is_warned_of_once_and_ends_no_training(
    toy, recorded, caplog, fails_at
):
    recorded(fails_at=fails_at)
    settings = train(toy(), "tensorboard")
    assert open_store(settings).fold_card(MEMBER, 0) is not None
    told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert told == [
        "tensorboard failed, the training goes on without it: ConnectionError: no network"
    ]


def test_a_resumed_fold_goes_on_at_its_step(toy, recorded, monkeypatch):
    made = recorded()
    path, once = toy(), Fit._train_step

    def until_eight(self, *args):
        if self.steps_done == 8:
            raise KeyboardInterrupt
        once(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Fit, "_train_step", until_eight)
        with pytest.raises(KeyboardInterrupt):
            train(path, "tensorboard", "checkpoints.steps=2")
    train(path, "tensorboard", "checkpoints.steps=2")
    first, second = made
    assert first.steps("loss") == list(range(1, 9))
    assert second.steps("loss") == list(range(8, STEPS + 1))  # the last checkpoint is of step 7
    assert second.named["purge_step"] == 8
    assert (len(first.settings), len(second.settings)) == (1, 0)
    assert (first.finished, second.finished) == (1, 1)


def test_long_trainings_are_told_in_so_many_points(recorded):
    made = recorded()
    follower = tracking.Tracked("fake", lambda: Recorder(made), n_steps=5 * tracking.MOST_POINTS)
    for n in range(1, 101):
        follower.step(0.5, 0.1, n)
    assert made[0].steps("loss") == list(range(5, 101, 5))


def test_a_missing_package_is_told_before_anything_is_made(toy, monkeypatch, tmp_path):
    monkeypatch.setattr(tracking, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="^tracking: mlflow is not installed; pip install mlflow$"):
        train(toy(), "mlflow")
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("given", "mode"),
    [
        ({}, "offline"),
        ({"WANDB_API_KEY": "x"}, "online"),
        ({"WANDB_API_KEY": "x", "WANDB_MODE": "disabled"}, "disabled"),
    ],
)
def test_wandb_is_offline_without_a_key_and_as_its_user_says(
    toy, recorded, monkeypatch, given, mode
):
    made = recorded()
    for key in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(key, raising=False)
    for key, value in given.items():
        monkeypatch.setenv(key, value)
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(Settings=dict))
    settings = train(toy(), "wandb", "train.epochs=1")
    (tracker,) = made
    assert tracker.given == ("toy",)
    assert (tracker.named["name"], tracker.named["mode"]) == (f"{MEMBER}-fold0", mode)
    assert tracker.named["dir"] == str(open_store(settings).tracking_folder)


def test_mlflow_keeps_its_runs_in_the_store_and_finds_one_that_was_begun(
    toy, recorded, monkeypatch
):
    made, places = recorded(), []
    found = [SimpleNamespace(info=SimpleNamespace(run_id="r7"))]
    library = SimpleNamespace(set_tracking_uri=places.append, search_runs=lambda **_: found)
    monkeypatch.setitem(sys.modules, "mlflow", library)
    for key in ("MLFLOW_TRACKING_URI", "MLFLOW_LOGGING_LEVEL"):
        monkeypatch.delenv(key, raising=False)
    settings = config.load(toy(), [*QUICK, "tracking=mlflow"])
    store, (member,) = open_store(settings), settings.resolve_members()
    for steps_done in (0, 4):
        tracking.follow(settings, store, member, 0, {}, n_steps=8, steps_done=steps_done).close()
    assert places == [f"sqlite:///{store.tracking_folder / 'mlflow.db'}"] * 2
    assert [tracker.named["run_id"] for tracker in made] == [None, "r7"]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://elsewhere")
    tracking.follow(settings, store, member, 0, {}, n_steps=8, steps_done=0).close()
    assert len(places) == 2

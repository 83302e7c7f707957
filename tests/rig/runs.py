"""What children do: a command, or a run from the first fold to the submission, telling of it.

They tell of every phase they enter, as ("phase", name), and of whatever they have finished, as
("finished", paths), relative to the store's folder.
"""

import functools
import os
from importlib import import_module
from pathlib import Path

from poolblend import config, pipeline
from poolblend.competition import demo
from poolblend.jobs import finetune
from poolblend.loading.competition import load_competition, open_store
from poolblend.pipeline import inference as submission
from poolblend.store import Checkpoints, Store
from poolblend.store.foldfiles import FoldFiles
from poolblend.store.kept import KeptFile
from poolblend.training.fit import Fit
from rig import toys
from rig.looking import find

# Not every process has imported it before, and its package has a function of the same name.
search = import_module("poolblend.ensembling.blenders.search")

STARTING, BETWEEN = "starting", "between"


class Narrator:
    """Makes the work of this process tell of its phases and of what it has finished."""

    def __init__(self, tell, root):
        self.tell, self.root, self.phase = tell, root, STARTING
        for owner, name, phase in (
            (Fit, "_train_step", "training step"),
            (Checkpoints, "save", "checkpoint"),
            (Checkpoints, "drop", "checkpoint"),
            (finetune, "predict", "predicting a fold"),
            (FoldFiles, "save", "saving a fold"),
            (search, "sampler", "Optuna's search"),
            (Store, "write_blend", "blend card"),
            (submission, "_hidden_score", "scoring"),
            (KeptFile, "keep", "test predictions"),
            (Store, "write_submission", "submission"),
            (pipeline, "blend", "blending"),
            (pipeline, "infer", "inference"),
        ):
            setattr(owner, name, self._telling(getattr(owner, name), phase))

    def _telling(self, work, phase):
        @functools.wraps(work)
        def told(*args, **kwargs):
            before = self.phase
            self._enter(phase)
            result = work(*args, **kwargs)
            finished = self._finished(work.__name__, *args)
            if finished:
                self.tell(("finished", finished))
            self._enter(BETWEEN if before == STARTING else before)
            return result

        return told

    def _enter(self, phase):
        self.phase = phase
        self.tell(("phase", phase))

    def _finished(self, name, owner, *_):
        """The store's files that the method `name` of `owner` has finished; a trial's are none."""
        paths = []
        if isinstance(owner, FoldFiles):
            paths = [owner.folder / "card.json", owner.oof_path]
        elif isinstance(owner, KeptFile):
            paths = [owner.path]
        elif name == "write_blend":
            paths = [owner.blend_path]
        elif name == "write_submission":
            paths = [owner.submission_path, owner.submission_path.with_suffix(".json")]
        own = (path for path in paths if path.is_relative_to(self.root))
        return [str(path.relative_to(self.root)) for path in own]


def whole(tell, settings, **chosen):
    """train.py, blend.py, infer.py."""
    train(tell, settings, **chosen)
    pipeline.blend(settings)
    pipeline.infer(settings)


def train(tell, settings, **chosen):
    pipeline.train(settings, **chosen)


def blend(tell, settings):
    pipeline.blend(settings)


def infer(tell, settings):
    pipeline.infer(settings)


def make_folds(tell, settings):
    """What train.py does before any training: the demo's tables, and the folds."""
    load_competition(settings, open_store(settings), make_folds=True)


class Signalled:
    """Before a run: this process sends itself a signal when it enters a phase the n-th time."""

    def __init__(self, number, phase, times):
        self.number, self.phase, self.left = number, phase, times

    def __call__(self, narrator):
        tell = narrator.tell

        def told(what):
            tell(what)
            self.left -= what == ("phase", self.phase)
            if self.left == 0:
                self.left = -1
                os.kill(os.getpid(), self.number)

        narrator.tell = told


def small_demo(_):
    """Before a run: the demo competition is a small one, quickly made."""
    frame = toys.toy_frame("multiclass", 40).rename(columns={"target": "library"})
    frame.insert(0, "id", range(len(frame)))
    test = frame[30:]
    made = {
        "train": frame[:30],
        "test": test[["id", "text"]],
        "sample_submission": test[["id", "library"]].assign(library="good"),
        "test_labels": test[["id", "library"]],
    }
    demo.build_demo = lambda: made


def of_the_demo(place):
    """The config's keys for the demo, made in `place`."""
    data = {"demo": True, "dir": str(place), "target": "library"}
    keys = {f"data.{key}": value for key, value in data.items()}
    keys |= {"task": "multiclass", "metric": "accuracy"}
    return tuple(f"{key}={value}" for key, value in keys.items())


def run(tell, work, path, sets=(), chosen=None, before=None, check=None):
    """`work` on the config, narrated; `before` is done first, to this process alone.

    `check` is (what is right, what was there at first, what was finished): the store is compared
    with it before the work, and again after it, which is told as ("found", what is wrong).
    """
    settings = config.load(path, sets)
    if check is not None:
        tell(("found", find(settings, *check)))
    narrator = Narrator(tell, open_store(settings).root)
    if before is not None:
        before(narrator)
    work(tell, settings, **(chosen or {}))
    if before is not None and hasattr(before, "end"):
        before.end()
    if check is not None:
        tell(("found", find(settings, *check, ended=True)))


def write_toy(tell, place):
    """Write a backbone, and a toy competition whose runs meet all that can be killed; its path."""
    place = Path(place)
    toys.write_encoder(place / "tiny")
    data = {"dir": str(place / "data"), "target": ["target"], "test_labels": "test_labels.csv"}
    blend = {"trials": 60, "resamples": 50, "fitters": ["convex", "optuna"], "fitter": "optuna"}
    path = toys.write_toy(
        place,
        place / "tiny",
        data=data,
        metric="log_loss",
        blend=blend,
        checkpoints={"steps": 2},
    )
    tell(str(path))

"""A process killed at any moment loses nothing, and leaves nothing half done that passes for done.

benchmarks/kills.py has more of the same.
"""

from contextlib import contextmanager

import pytest

from rig import runs
from rig.children import answer
from rig.kills import Scene, kills_at_every, random_kills

FOLD = {"poolers": "max", "folds": "0"}
QUICK = ("train.epochs=1", "checkpoints.steps=null")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("kills")


@pytest.fixture(scope="module")
def path(place):
    return answer(runs.write_toy, str(place), log=place / "log.txt")


@pytest.mark.parametrize("kills", [3, pytest.param(12, marks=pytest.mark.slow)])
def test_a_run_killed_at_random_moments_ends_as_one_never_interrupted(path, place, kills):
    scene = Scene("whole", runs.whole, path, place / "random", sets=("blend.trials=9",))
    tally = random_kills(scene, kills, seed=5)
    assert tally.clean, tally.wrong
    assert tally.counted >= kills


def saving(operation):
    kind, _, phase = operation
    return phase == "saving a fold" and kind in ("rename", "fsync", "remove")


@pytest.mark.slow
def test_a_fold_is_saved_whole_or_not_at_all(path, place):
    scene = Scene("a fold", runs.train, path, place / "fold", sets=QUICK, chosen=FOLD)
    tally = kills_at_every(scene, saving)
    assert tally.clean, tally.wrong
    assert {"rename", "fsync", "remove", "within a write"} <= set(tally.kills)


def write_in_halves(_):
    """A fault: files are written under their final names, bit by bit."""
    from poolblend.store import files, foldfiles

    whole = files.no_half_files

    @contextmanager
    def halves(path):
        with whole(path) as temporary:
            yield temporary
            if temporary.is_file():
                content = temporary.read_bytes()
                path.write_bytes(content[: len(content) // 2])
                with path.open("ab"):  # here it may be killed
                    pass

    foldfiles.no_half_files = halves


def card_first(_):
    """A fault: a fold's card comes into place before the files that it vouches for."""
    from poolblend.store.foldfiles import FoldFiles

    save = FoldFiles.save

    def early(self, **given):
        store = self.oof_path.parents[3]
        folder, oof_path = (
            store.with_name("aside") / path.relative_to(store)
            for path in (self.folder, self.oof_path)
        )
        save(self._replace(folder=folder, oof_path=oof_path), **given)
        card = self.folder / "card.json"
        card.parent.mkdir(parents=True)
        card.write_bytes((folder / "card.json").read_bytes())
        save(self, **given)

    FoldFiles.save = early


@pytest.mark.slow
@pytest.mark.parametrize("fault", [write_in_halves, card_first])
def test_the_rig_finds_a_store_that_writes_in_the_wrong_order(path, place, fault):
    scene = Scene("fault", runs.train, path, place / fault.__name__, None, QUICK, FOLD, fault)
    tally = kills_at_every(scene, on_final_names)
    assert tally.wrong["corrupt"] or tally.wrong["differing"]


def on_final_names(operation):
    kind, pattern, phase = operation
    return phase == "saving a fold" and kind in ("open", "remove") and ".tmp" not in pattern

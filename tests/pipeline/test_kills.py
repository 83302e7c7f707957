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


def test_a_run_killed_at_random_moments_ends_as_one_never_interrupted(path, place):
    scene = Scene("whole", runs.whole, path, place / "random", sets=("blend.trials=9",))
    tally = random_kills(scene, 12, seed=5)
    assert tally.clean, tally.wrong
    assert tally.counted >= 12


def saving(operation):
    kind, _, phase = operation
    return phase == "saving a fold" and kind in ("rename", "fsync", "remove")


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
    from poolblend.store import Store

    save = Store.save_fold

    def early(self, member, fold, **told):
        aside = Store(self.root.with_name("aside"), self.run)
        save(aside, member, fold, **told)
        card = self.fold_folder(member, fold) / "card.json"
        card.parent.mkdir(parents=True)
        card.write_bytes((aside.fold_folder(member, fold) / "card.json").read_bytes())
        save(self, member, fold, **told)

    Store.save_fold = early


@pytest.mark.parametrize("fault", [write_in_halves, card_first])
def test_the_rig_finds_a_store_that_writes_in_the_wrong_order(path, place, fault):
    scene = Scene("fault", runs.train, path, place / fault.__name__, None, QUICK, FOLD, fault)
    tally = kills_at_every(scene, on_final_names)
    assert tally.wrong["corrupt"] or tally.wrong["differing"]


def on_final_names(operation):
    kind, pattern, phase = operation
    return phase == "saving a fold" and kind in ("open", "remove") and ".tmp" not in pattern

"""Every kind of artefact, damaged in every way: named, never used, and repaired as is said."""

from __future__ import annotations

import json
import pickle
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest

from poolblend.errors import UserError
from poolblend.training.fit import Fit
from poolblend.training.options import Checkpoints
from rig.edited import edit_card

MEMBER = "tiny-mean-s42"


# --- damages: what a file holds afterwards, None for no file ------------------------------------


def flipped(content: bytes, _: bytes) -> bytes:
    """One bit changed somewhere; in JSON, where it changes what is read."""
    chance = random.Random(1)
    while True:
        damaged = bytearray(content)
        damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
        try:
            same = json.loads(content) == json.loads(bytes(damaged))
        except ValueError:
            same = False
        if not same:
            return bytes(damaged)


class Opened:
    """A pickle that fails the test when it is opened."""

    def __reduce__(self):
        return (pytest.fail, ("a pickle was opened",))


DAMAGES: dict[str, Callable[[bytes, bytes], bytes | None]] = {
    "cut short": lambda whole, _: whole[: len(whole) * 2 // 3],
    "exchanged": lambda _, other: other,
    "gone": lambda *_: None,
    "a flipped bit": flipped,
    "emptied": lambda *_: b"",
    "a pickle": lambda *_: pickle.dumps(Opened()),
}
FAST = ("exchanged", "gone")
EVERY_DAMAGE = [pytest.param(how, marks=[] if how in FAST else pytest.mark.slow) for how in DAMAGES]


def damage(path: Path, how: str, other: bytes) -> None:
    content = DAMAGES[how](path.read_bytes(), other)
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)


# --- kinds of files ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Kind:
    """`other` are the bytes of another file of this kind. `refused_by` are the commands that must
    refuse it, and `says` is in their message; `repair` does what the message says.
    """

    path: Callable[..., Path]
    other: Callable[..., bytes]
    refused_by: set[str]
    says: str
    repair: Callable
    refused_when_gone: set[str] | None = None  # where that differs: what is missing is made


def in_fold(name: str, fold: int = 0) -> Callable:
    return lambda run: run.store.fold_folder(MEMBER, fold) / name


def bytes_of(path: Callable) -> Callable:
    return lambda run: path(run).read_bytes()


def another_tokenizer(run) -> bytes:
    """One of the same size, with two words exchanged."""
    content = in_fold("tokenizer.json")(run).read_text()
    return (
        content.replace("lovely", "?").replace("broken", "lovely").replace("?", "broken").encode()
    )


def edited(path: Callable, **changes) -> Callable:
    """A whole card, of something else."""

    def make(run) -> bytes:
        place = path(run).with_name("other.json")
        shutil.copyfile(path(run), place)
        edit_card(place, lambda content: content.update(changes))
        content = place.read_bytes()
        place.unlink()
        return content

    return make


def other_folds(run) -> bytes:
    table = pd.read_csv(run.store.folds_path)
    return table.assign(fold=1 - table["fold"]).to_csv(index=False).encode()


def train_again(run) -> None:
    run.train(overwrite=True)


def restore_folds(run) -> None:
    """From the OOF files, as there is no other copy here."""
    tables = [pd.read_parquet(run.store.oof_path(MEMBER, fold)) for fold in range(2)]
    table = pd.concat(tables)[["id", "fold"]].sort_values("id")
    table.to_csv(run.store.folds_path, index=False, lineterminator="\n")


def folds(end: str) -> Callable:
    return lambda run: run.store.folds_path.with_suffix(end)


def submission(end: str) -> Callable:
    return lambda run: run.store.submission_path.with_suffix(end)


def blend_path(run) -> Path:
    return run.store.blend_path


TRAIN = f"; train {MEMBER} fold 0 again with --overwrite"
INFER = "run infer.py again (same --config and --set), or delete"
KINDS = {
    "weights": Kind(
        in_fold("model.safetensors"),
        bytes_of(in_fold("model.safetensors", 1)),
        {"infer", "check"},
        TRAIN,
        train_again,
    ),
    "tokenizer": Kind(
        in_fold("tokenizer.json"), another_tokenizer, {"infer", "check"}, TRAIN, train_again
    ),
    "fold card": Kind(
        in_fold("card.json"),
        bytes_of(in_fold("card.json", 1)),
        {"train", "blend", "infer", "check"},
        TRAIN,
        train_again,
        refused_when_gone=set(),  # an unfinished fold
    ),
    "OOF": Kind(
        lambda run: run.store.oof_path(MEMBER, 0),
        lambda run: run.store.oof_path(MEMBER, 1).read_bytes(),
        {"blend", "check"},
        TRAIN,
        train_again,
    ),
    "folds": Kind(
        folds(".csv"),
        other_folds,
        {"train", "blend", "check"},
        "restore it",
        restore_folds,
        refused_when_gone=set(),  # made again, the same
    ),
    "folds card": Kind(
        folds(".json"),
        edited(folds(".json"), folds_sha256="0" * 64),
        {"train", "blend", "check"},
        "delete",
        lambda run: folds(".json")(run).unlink(missing_ok=True),
        refused_when_gone=set(),  # one's own folds need none
    ),
    "blend card": Kind(
        blend_path,
        edited(blend_path, run="other"),
        {"infer", "check"},
        "run blend.py ",
        lambda run: run.blend(),
        refused_when_gone={"infer"},
    ),
    "submission": Kind(
        submission(".csv"),
        lambda run: submission(".csv")(run).read_bytes().replace(b"0.4", b"0.7"),
        {"check"},
        INFER,
        lambda run: run.infer(),
        refused_when_gone=set(),
    ),
    "submission card": Kind(
        submission(".json"), bytes_of(blend_path), {"check"}, INFER, lambda run: run.infer()
    ),
}


def outcome(run) -> dict:
    """What a run comes to: bytes of files, and of the blend card all but when and where."""
    files = run.everything()
    kinds = (".parquet", ".safetensors", "tokenizer.json", "config.json", "folds.csv")
    result = {
        name: content
        for name, content in files.items()
        if name.endswith(kinds) and "test_fold" not in name
    }
    card = json.loads(files["oof/toy/blend.json"])
    for key in ("members", "mixture", "blenders"):
        result[key] = card.get(key)
    result["submission"] = files.get("submissions/toy/submission.csv")
    return result


@pytest.fixture
def attempt(finished, capsys):
    """Runs a command; its message if it refuses, in one line, with all files as they were."""

    def run(command: str) -> str | None:
        before = finished.everything()
        capsys.readouterr()
        try:
            getattr(finished, command)()
        except UserError as error:
            message = str(error)
        else:
            return None
        assert finished.everything() == before
        assert "\n" not in message
        printed = capsys.readouterr().out if command == "check" else ""
        return " ".join(f"{printed} {message}".split())

    return run


@pytest.mark.parametrize("how", EVERY_DAMAGE)
@pytest.mark.parametrize("kind", KINDS)
def test_damage_is_named_and_nothing_is_made_of_it(finished, attempt, kind, how):
    kind = KINDS[kind]
    whole, path = outcome(finished), kind.path(finished)
    damage(path, how, kind.other(finished))
    if "infer" in kind.refused_by:  # as on a machine that has not predicted test yet
        finished.store.test_path(MEMBER, 0).unlink()
    must = kind.refused_by
    if how == "gone" and kind.refused_when_gone is not None:
        must = kind.refused_when_gone
    refused = set()
    for command in ("check", "infer", "train", "blend"):
        message = attempt(command)
        if message is not None:
            refused.add(command)
            assert not must or (path.name in message and kind.says in message)
    assert refused >= must
    if refused:
        kind.repair(finished)
    for command in ("train", *({"blend"} & kind.refused_by), "infer", "check"):
        assert attempt(command) is None
    assert outcome(finished) == whole


@pytest.mark.parametrize("how", EVERY_DAMAGE)
def test_damaged_test_predictions_are_made_again(finished, attempt, how, caplog):
    whole, path = outcome(finished), finished.store.test_path(MEMBER, 0)
    content = path.read_bytes()
    damage(path, how, finished.store.test_path(MEMBER, 1).read_bytes())
    found = attempt("check")
    finished.infer()
    if how != "gone":
        assert f"{path.name} is damaged; infer.py makes these predictions again" in found
        assert f"{path} is damaged" in caplog.text
    assert attempt("check") is None
    assert outcome(finished) == whole
    assert path.read_bytes() == content


@pytest.mark.parametrize("how", EVERY_DAMAGE)
@pytest.mark.parametrize("name", ["gbm.csv", "test/gbm.csv"])
def test_a_changed_file_of_an_outside_member_is_named(finished, attempt, name, how):
    whole, path = outcome(finished), Path(finished.outside) / name
    content = path.read_bytes()
    table = pd.read_csv(path)
    damage(path, how, table.assign(pred=1 - table["pred"]).to_csv(index=False).encode())
    message = attempt("check")
    assert f"{path} " in message
    assert "run blend.py again" in message
    message = attempt("infer")
    if name.startswith("test"):
        assert str(path) in message
        assert "--members-from, or run blend.py again" in message
    path.write_bytes(content)
    for command in ("check", "blend", "infer", "check"):
        assert attempt(command) is None
    assert outcome(finished) == whole


# --- checkpoints: the older one, or the fold's beginning -----------------------------------------


class Killed(BaseException):
    """Stands for SIGKILL as far as a test within one process can."""


@pytest.fixture
def stopped(finished, monkeypatch):
    """The finished run with its second fold killed at its last step; the bytes of the whole one."""
    whole = outcome(finished)
    shutil.rmtree(finished.store.fold_folder(MEMBER, 1))
    finished.store.oof_path(MEMBER, 1).unlink()
    begun = finished._replace(
        settings=finished.settings.model_copy(update={"checkpoints": Checkpoints(steps=1)})
    )
    steps = iter(range(3))
    once = Fit._train_step

    def step(self, *args):
        if next(steps, None) is None:
            raise Killed
        return once(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Fit, "_train_step", step)
        with pytest.raises(Killed):
            begun.train()
    assert [folder.name for folder in checkpoints_of(finished)] == [
        "step-00000002",
        "step-00000003",
    ]
    return whole


def checkpoints_of(run) -> list[Path]:
    return run.store.fold(MEMBER, 1).checkpoints.folders()


@pytest.mark.parametrize("how", EVERY_DAMAGE)
@pytest.mark.parametrize("name", ["state.safetensors", "card.json"])
def test_a_damaged_checkpoint_is_named_and_the_older_one_used(
    finished, stopped, attempt, name, how, caplog
):
    older, newer = checkpoints_of(finished)
    damage(newer / name, how, (older / name).read_bytes())
    message = attempt("check")
    with caplog.at_level("INFO", logger="poolblend"):
        finished.train()
    if (name, how) != ("card.json", "gone"):  # it was being removed
        assert newer.name in message
        assert "train.py resumes from an older one, or starts from the beginning" in message
        assert f"{newer}" in caplog.text
        assert "is damaged" in caplog.text
    assert "resumes at step 2 of 4" in caplog.text
    assert outcome(finished) == stopped


@pytest.mark.parametrize("others", [False, True])
def test_without_a_checkpoint_of_its_own_a_fold_starts_from_the_beginning(
    finished, stopped, caplog, others
):
    """The training of another fold's checkpoint has seen the rows that this fold is judged by."""
    folders = checkpoints_of(finished)
    if others:
        place = folders[0].parent
        place.rename(place.with_name("fold0"))
        shutil.rmtree(finished.store.fold_folder(MEMBER, 0))
    for folder in [] if others else folders:
        (folder / "state.safetensors").write_bytes(b"")
    with caplog.at_level("INFO", logger="poolblend"):
        finished.train()
    reason = "a checkpoint of another fold or step" if others else "state.safetensors is damaged"
    assert caplog.text.count(reason) >= 2
    assert "resumes at" not in caplog.text
    assert outcome(finished) == stopped

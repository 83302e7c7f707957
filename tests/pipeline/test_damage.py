"""Every kind of artefact, damaged in every way: named, made nothing of, and mended as is told."""

from __future__ import annotations

import json
import pickle
import random
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import pytest

from poolblend.config.training import Checkpoints
from poolblend.errors import UserError
from poolblend.store.cards import read_card, write_card
from poolblend.training.fit import Fit

MEMBER = "tiny-mean-s42"


# --- damages: what a file holds afterwards, None for no file ------------------------------------


def flipped(content: bytes, seed: int) -> bytes:
    """One bit changed somewhere; in JSON, where it changes what is read."""
    chance = random.Random(seed)
    while True:
        damaged = bytearray(content)
        damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
        if not same_json(content, bytes(damaged)):
            return bytes(damaged)


def same_json(one: bytes, other: bytes) -> bool:
    try:
        return bool(json.loads(one) == json.loads(other))
    except ValueError:
        return False


class Opened:
    """A pickle that says so when it is opened."""

    def __reduce__(self):
        return (pytest.fail, ("a pickle was opened",))


DAMAGES: dict[str, Callable[[bytes, bytes], bytes | None]] = {
    "cut short": lambda whole, _: whole[: len(whole) * 2 // 3],
    "emptied": lambda *_: b"",
    "flipped 1": lambda whole, _: flipped(whole, 1),
    "flipped 2": lambda whole, _: flipped(whole, 2),
    "exchanged": lambda _, other: other,
    "a pickle": lambda *_: pickle.dumps(Opened()),
    "gone": lambda *_: None,
}


def damage(path: Path, how: str, other: bytes) -> None:
    content = DAMAGES[how](path.read_bytes(), other)
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)


# --- kinds: where they are, what reads them, what is told, what mends ----------------------------


@dataclass(frozen=True)
class Kind:
    """`other` is a file of the same kind; `read_by` must refuse it; `mend` does what `says` says.

    `softer` are the readers that must refuse it after damages as a kill leaves them: what is
    missing is made.
    """

    path: Callable
    other: Callable
    read_by: set[str]
    says: str
    mend: Callable
    softer: Mapping[str, set[str]] = field(default_factory=dict)


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


def other_card(path: Callable, **changes) -> Callable:
    """A whole card, of another place."""

    def make(run) -> bytes:
        place = path(run).with_name("other.json")
        write_card(place, {**read_card(path(run)), **changes})
        content = place.read_bytes()
        place.unlink()
        return content

    return make


def other_folds(run) -> bytes:
    table = pd.read_csv(run.store.folds_path)
    return table.assign(fold=1 - table["fold"]).to_csv(index=False).encode()


def train_again(run) -> None:
    run.train(overwrite=True)


def folds_path(run) -> Path:
    return run.store.folds_path


def restore_folds(run) -> None:
    """From the OOF files, as there is no other copy here."""
    tables = [pd.read_parquet(run.store.oof_path(MEMBER, fold)) for fold in range(2)]
    table = pd.concat(tables)[["id", "fold"]].sort_values("id")
    table.to_csv(folds_path(run), index=False, lineterminator="\n")


def blend_path(run) -> Path:
    return run.store.blend_path


def submission(end: str) -> Callable:
    return lambda run: run.store.submission_path.with_suffix(end)


AGAIN = f"; train {MEMBER} fold 0 again with --overwrite"
ALL = {"train", "blend", "infer", "check"}
KINDS = {
    "weights": Kind(
        in_fold("model.safetensors"),
        bytes_of(in_fold("model.safetensors", 1)),
        {"infer", "check"},
        AGAIN,
        train_again,
    ),
    "tokenizer": Kind(
        in_fold("tokenizer.json"), another_tokenizer, {"infer", "check"}, AGAIN, train_again
    ),
    "encoder config": Kind(
        in_fold("config.json"),
        bytes_of(in_fold("tokenizer_config.json")),
        {"infer", "check"},
        AGAIN,
        train_again,
    ),
    "fold card": Kind(
        in_fold("card.json"),
        bytes_of(in_fold("card.json", 1)),
        ALL,
        AGAIN,
        train_again,
        softer={"gone": set()},  # an unfinished fold
    ),
    "OOF": Kind(
        lambda run: run.store.oof_path(MEMBER, 0),
        lambda run: run.store.oof_path(MEMBER, 1).read_bytes(),
        {"blend", "check"},
        AGAIN,
        train_again,
    ),
    "folds": Kind(
        folds_path,
        other_folds,
        {"train", "blend", "check"},
        "restore it, or move it and the models trained on it away to make new folds",
        restore_folds,
        softer={"gone": set()},  # made again, the same
    ),
    "folds card": Kind(
        lambda run: run.store.folds_path.with_suffix(".json"),
        other_card(lambda run: run.store.folds_path.with_suffix(".json"), folds_sha256="0" * 64),
        {"train", "blend", "check"},
        "delete",
        lambda run: run.store.folds_path.with_suffix(".json").unlink(missing_ok=True),
        softer={"gone": set()},  # one's own folds need none
    ),
    "blend card": Kind(
        blend_path,
        other_card(blend_path, run="other"),
        {"infer", "check"},
        "run blend.py ",
        lambda run: run.blend(),
        softer={"gone": {"infer"}},
    ),
    "submission": Kind(
        submission(".csv"),
        lambda run: submission(".csv")(run).read_bytes().replace(b"0.4", b"0.7"),
        {"check"},
        "run infer.py again (same --config), or delete",
        lambda run: run.infer(),
        softer={"gone": set()},
    ),
    "submission card": Kind(
        submission(".json"),
        bytes_of(blend_path),
        {"check"},
        "run infer.py again (same --config), or delete",
        lambda run: run.infer(),
    ),
}


@pytest.fixture(params=KINDS)
def kind(request):
    return KINDS[request.param]


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
    """Runs a command; what it says where it refuses, in one line, with all files as they were."""

    def run(command: str) -> str | None:
        before = finished.everything()
        capsys.readouterr()
        try:
            getattr(finished, command)()
        except UserError as error:
            told = str(error)
        else:
            return None
        assert finished.everything() == before
        assert "\n" not in told
        printed = capsys.readouterr().out if command == "check" else ""
        return " ".join(f"{printed} {told}".split())

    return run


@pytest.mark.parametrize("how", DAMAGES)
def test_damage_is_named_and_nothing_is_made_of_it(finished, attempt, kind, how):
    whole, path = outcome(finished), kind.path(finished)
    damage(path, how, kind.other(finished))
    if "infer" in kind.read_by:  # as on a machine that has not predicted test yet
        finished.store.test_path(MEMBER, 0).unlink()
    refused = set()
    must = kind.softer.get(how, kind.read_by)
    for command in ("check", "infer", "train", "blend"):
        told = attempt(command)
        if told is not None:
            refused.add(command)
            assert not must or (path.name in told and kind.says in told)
    assert refused >= must
    if refused:
        kind.mend(finished)
    for command in ("train", *({"blend"} & kind.read_by), "infer", "check"):
        assert attempt(command) is None
    assert outcome(finished) == whole


def test_new_folds_after_damage_are_the_old_ones(finished):
    """As is told: the folds, and what was made on them, moved away."""
    whole = outcome(finished)
    for kind in ("input", "models", "oof"):
        shutil.rmtree(finished.store.root / kind)
    for command in (finished.train, finished.blend, finished.infer, finished.check):
        command()
    assert outcome(finished) == whole


# --- what is only kept for later: made again -----------------------------------------------------


@pytest.mark.parametrize("how", DAMAGES)
def test_damaged_test_predictions_are_made_again(finished, attempt, how, caplog):
    whole, path = outcome(finished), finished.store.test_path(MEMBER, 0)
    content = path.read_bytes()
    other = finished.store.test_path(MEMBER, 1).read_bytes()
    damage(path, how, other)
    found = attempt("check")
    finished.infer()
    if how == "gone" or how.startswith("flipped"):  # a bit may flip where nothing is kept
        assert found is None or path.name in found
    else:
        assert f"{path.name} is damaged; infer.py makes these predictions again" in found
        assert f"{path} is damaged" in caplog.text
    assert attempt("check") is None
    assert outcome(finished) == whole
    assert len(path.read_bytes()) == len(content)


# --- files of others: the blend knows what it was made of ----------------------------------------


@pytest.mark.parametrize("how", DAMAGES)
@pytest.mark.parametrize("name", ["gbm.csv", "test/gbm.csv"])
def test_a_changed_file_of_an_outside_member_is_named(finished, attempt, name, how):
    whole, path = outcome(finished), Path(finished.outside) / name
    content = path.read_bytes()
    table = pd.read_csv(path)
    damage(path, how, table.assign(pred=1 - table["pred"]).to_csv(index=False).encode())
    told = attempt("check")
    assert f"{path}, which " in told
    assert "run blend.py again" in told
    told = attempt("infer")
    if name.startswith("test"):
        assert str(path) in told
        assert "since the blend, and not in " in told
        assert "--members-from, or run blend.py again" in told
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
    return whole, [folder.name for folder in checkpoints_of(finished)]


def checkpoints_of(run) -> list[Path]:
    return run.store.checkpoints(MEMBER, 1).folders()


@pytest.mark.parametrize("how", DAMAGES)
@pytest.mark.parametrize("name", ["state.safetensors", "card.json"])
def test_a_damaged_checkpoint_is_named_and_the_older_one_used(
    finished, stopped, attempt, name, how, caplog
):
    whole, steps = stopped
    assert steps == ["step-00000002", "step-00000003"]
    older, newer = checkpoints_of(finished)
    damage(newer / name, how, (older / name).read_bytes())
    told = attempt("check")
    with caplog.at_level("INFO", logger="poolblend"):
        finished.train()
    if (name, how) != ("card.json", "gone"):  # one half removed
        assert newer.name in told
        assert "train.py goes on from an older one, or begins anew" in told
        assert f"{newer}" in caplog.text
        assert "is damaged" in caplog.text
    assert "goes on at step 2 of 4" in caplog.text
    assert outcome(finished) == whole


def test_where_all_checkpoints_are_damaged_the_fold_begins_anew(finished, stopped, caplog):
    whole, _ = stopped
    for folder in checkpoints_of(finished):
        (folder / "state.safetensors").write_bytes(b"")
    with caplog.at_level("INFO", logger="poolblend"):
        finished.train()
    assert caplog.text.count("state.safetensors is damaged") >= 2
    assert "goes on at" not in caplog.text
    assert outcome(finished) == whole


def test_a_checkpoint_of_another_fold_is_not_gone_on_from(finished, stopped, caplog):
    """Its training has seen the rows that this fold is to be judged by."""
    whole, _ = stopped
    place = checkpoints_of(finished)[0].parent
    away = place.with_name("fold0")
    place.rename(away)
    shutil.rmtree(finished.store.fold_folder(MEMBER, 0))
    with caplog.at_level("WARNING", logger="poolblend"):
        finished.train()
    assert "is damaged: it is the checkpoint of another place" in caplog.text
    assert outcome(finished) == whole

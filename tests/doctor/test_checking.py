"""`train.py --check` names what is damaged, stale or unfinished, and which commands mend it."""

import re
import shutil

import pandas as pd
import pytest

from poolblend.errors import UserError
from poolblend.loading.competition import open_store

MEMBER = "tiny-mean-s42"


@pytest.fixture
def said(finished, capsys):
    """Runs the check, of other settings where some are given; what it prints, and its error."""

    def run(settings=None):
        capsys.readouterr()
        error = ""
        try:
            finished._replace(settings=settings or finished.settings).check()
        except UserError as refusal:
            error = str(refusal)
        return capsys.readouterr().out, error

    return run


def changed(finished, **keys):
    return finished.settings.model_copy(update=keys)


def test_a_whole_run_is_told_in_a_few_lines_and_is_no_error(finished, said):
    out, error = said()
    assert error == ""
    assert out.splitlines() == [
        f"run toy in {finished.store.root}",
        "",
        "folds.csv         whole",
        f"{MEMBER}     whole        fold 0, 1",
        "                  whole        test predictions of fold 0, 1",
        "blend.json        whole",
        "submission-*.csv  whole        1",
        "submission.csv    whole",
    ]


def test_nothing_stored_yet_is_said_and_nothing_is_made(finished, said, tmp_path):
    out, error = said(changed(finished, store=str(tmp_path / "none")))
    assert (out, error) == (f"nothing is stored yet for run toy in {tmp_path / 'none'}\n", "")
    assert not (tmp_path / "none").exists()


def test_a_messy_run_is_grouped_by_member_within_100_columns(finished, said):
    store = finished.store
    (store.fold_folder(MEMBER, 0) / "tokenizer.json").write_text("{}")
    (store.fold_folder(MEMBER, 1) / "card.json").unlink()
    store.submission_path.write_text("id,target\n")
    out, error = said()
    table, *notes = out.split("\n\n")[1:]
    assert table.splitlines()[1:4] == [
        f"{MEMBER}     damaged      fold 0",
        "                  unfinished   fold 1",
        "                  whole        test predictions of fold 0, 1",
    ]
    assert max(map(len, out.splitlines()[1:])) <= 100
    assert re.search("damaged: submission.csv: .*run infer.py again", " ".join(notes), re.DOTALL)
    assert "unfinished: tiny-mean-s42 fold 1: train.py begins anew" in notes
    assert str(store.root) not in "".join(notes)
    assert error == (
        "2 damaged, 1 stale of 8 artefacts; to mend it: python train.py --overwrite && python "
        "blend.py && python infer.py (with the same --config and --set)"
    )


def test_doing_what_is_said_mends_a_messy_run(finished, said):
    store = finished.store
    for name in ("tokenizer.json", "model.safetensors"):
        (store.fold_folder(MEMBER, 0) / name).write_text("{}")
    store.blend_path.write_text("{}")
    _, error = said()
    assert "train.py --overwrite && python blend.py && python infer.py" in error
    finished.train(overwrite=True)
    finished.blend()
    finished.infer()
    assert said()[1] == ""


@pytest.mark.parametrize(
    ("spoil", "commands"),
    [
        (lambda run: run.store.submission_path.write_bytes(b""), "infer.py"),
        (lambda run: run.store.test_path(MEMBER, 1).write_bytes(b""), "infer.py"),
        (lambda run: run.store.blend_path.write_bytes(b""), "blend.py && python infer.py"),
        (
            lambda run: (run.store.fold_folder(MEMBER, 1) / "card.json").write_bytes(b""),
            "train.py --overwrite",
        ),
    ],
    ids=["submission", "test predictions", "blend", "fold"],
)
def test_the_commands_are_those_that_are_needed(finished, said, spoil, commands):
    spoil(finished)
    assert f"to mend it: python {commands} (with" in said()[1]


def test_folds_that_the_config_would_train_otherwise_are_stale(finished, said):
    train = finished.settings.train.model_copy(update={"lr": 0.002})
    out, error = said(changed(finished, train=train, max_length=12))
    assert f"stale: {MEMBER} fold 1: is stale" not in out
    assert f"stale: {MEMBER} fold 1: max_length was 16, is 12; train.lr was 0.001, is 0.002" in out
    assert error.startswith("2 stale of 8 artefacts; to mend it: python train.py --overwrite")


def test_changed_train_data_make_folds_stale(finished, said):
    path = finished.settings.data_dir / "train.csv"
    path.write_text(path.read_text().replace("lovely", "sweet"))
    out, _ = said()
    assert f"stale: {MEMBER} fold 0: train has changed" in out


def test_a_fold_trained_again_makes_the_blend_stale_and_a_new_blend_the_submission(finished, said):
    train = finished.settings.train.model_copy(update={"lr": 0.002})
    settings = changed(finished, train=train)
    finished._replace(settings=settings).train(overwrite=True)
    out, error = said(settings)
    assert (
        "stale: blend.json: made of tiny-mean-s42 fold 0, which was trained again since and 1"
        in (" ".join(out.split()))
    )
    assert "to mend it: python blend.py && python infer.py" in error
    finished.blend()
    out, error = said(settings)
    assert "stale: submission.csv: made from an older blend; run infer.py again" in out
    assert "to mend it: python infer.py" in error


@pytest.mark.parametrize("lacking", ["backbone", "train.csv"])
def test_where_staleness_cannot_be_told_hashes_still_can(finished, said, lacking, tmp_path):
    settings = finished.settings
    if lacking == "train.csv":
        (settings.data_dir / "train.csv").unlink()
    else:
        gone = settings.backbone.model_copy(update={"source": str(tmp_path / "gone")})
        settings = changed(finished, backbone=gone)
    out, error = said(settings)
    assert "whether folds are stale cannot be told:" in out
    assert error == ""
    finished.store.oof_path(MEMBER, 0).write_bytes(b"")
    assert "damaged: tiny-mean-s42 fold 0:" in said(settings)[0]


def test_a_demo_that_is_not_there_is_not_made(finished, said, tmp_path):
    data = finished.settings.data.model_copy(update={"demo": True, "dir": str(tmp_path / "demo")})
    out, _ = said(changed(finished, data=data))
    assert "whether folds are stale cannot be told: there is no" in out
    assert not (tmp_path / "demo").exists()


def test_the_check_leaves_all_as_it_was(finished, said):
    before = {path: path.stat().st_mtime_ns for path in finished.store.root.rglob("*")}
    said()
    assert {path: path.stat().st_mtime_ns for path in finished.store.root.rglob("*")} == before


def test_a_store_that_was_copied_elsewhere_is_whole_there(finished, said, tmp_path):
    shutil.copytree(finished.store.root, tmp_path / "a copy é")
    _, error = said(changed(finished, store=str(tmp_path / "a copy é")))
    assert error == ""


def test_members_of_other_configs_are_checked_too(finished, said):
    settings = changed(finished, max_length=12, members=[])
    store = open_store(settings)
    assert store.members() == [MEMBER]
    store.oof_path(MEMBER, 0).write_bytes(b"")
    assert "damaged      fold 0" in said(settings)[0]


def test_many_folds_take_one_line(finished, said):
    """Numbers that follow each other are told by the first and the last."""
    store = finished.store
    card = pd.read_json(store.fold_folder(MEMBER, 0) / "card.json", typ="series")
    assert card["fold"] == 0
    for fold in (2, 3, 4, 7):
        shutil.copytree(store.fold_folder(MEMBER, 0), store.fold_folder(MEMBER, fold))
    out, _ = said()
    assert "damaged      fold 2 to 4, 7" in out

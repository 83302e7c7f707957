"""Runs from Python: what the page docs/api.md shows, and what a notebook relies on."""

import logging
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import poolblend as pb
from poolblend import config, pipeline
from poolblend.loading.competition import open_store
from poolblend.store.predictions import from_table
from rig import toys
from rig.tables import refused

ROOT = Path(__file__).parents[1]
SMALL = {
    "folds.n": 2,
    "max_length": 16,
    "train.epochs": 1,
    "train.batch_size": 8,
    "train.head_lr": 1e-2,
    "blend.trials": 5,
    "blend.resamples": 50,
}


@pytest.fixture(autouse=True)
def _as_before(_imported):
    """Heavy imports are done; the log, which a run turns on, is as before after the test."""
    log = logging.getLogger("poolblend")
    level = log.level
    yield
    log.setLevel(level)


@pytest.fixture
def make(tmp_path, tiny_backbone):
    """Makes a run on DataFrames; returns it and the frame of train and test rows together."""

    def made(task="binary", metric="f1", n=60, **keys):
        frame = toys.toy_frame(task, n)
        frame.insert(0, "id", range(100, 100 + n))
        targets = list(frame.columns[2:])
        tables = {"train": frame[: n - 12], "test": frame[n - 12 :].drop(columns=targets)}
        defaults = {"target": targets, "name": "toy", "members": ["mean", "max"]}
        arguments = {"task": task, "metric": metric} | defaults | tables | keys
        sets = SMALL | arguments.pop("set", {})
        run = pb.Run(backbone=str(tiny_backbone), folder=tmp_path, set=sets, **arguments)
        return run, frame

    return made


def files(place):
    return {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}


def stored_blend(settings, ids):
    """The blend's predictions of the test rows, from the stored predictions of its fold models."""
    store = open_store(settings)
    card = store.read_blend()
    pred_NK = 0
    for name, member in card.members.items():
        folds = range(len(member.origin.folds)) if member.weight else ()
        tables = [pd.read_parquet(store.test_path(name, fold)) for fold in folds]
        each = [from_table(table, map(str, ids), card.task.outputs) for table in tables]
        pred_NK += member.weight * sum(each) / max(len(each), 1)
    return pred_NK


@pytest.mark.parametrize("task", ["binary", "multiclass", "multilabel", "regression"])
def test_a_run_on_dataframes_ends_in_predictions_of_any_rows_and_the_submission(make, task):
    metric = {"binary": "f1", "multiclass": "accuracy", "multilabel": "f1_macro"}
    plain = {"blend.fitter": "equal", "blend.space": "plain"}
    run, frame = make(task, metric.get(task, "mcrmse"), set=plain)
    board = run.train()
    assert board["folds"].tolist() == [2, 2]
    worse = board["score"].diff().iloc[1]
    assert worse >= 0 if task == "regression" else worse <= 0
    assert (board["low"] <= board["high"]).all()
    result = run.blend()
    assert result.weights.to_dict() == {"tiny-max-s42": 0.5, "tiny-mean-s42": 0.5}
    assert result.score == result.card.choice.honest
    assert repr(result) == result.report == str(result)
    assert run.leaderboard()["weight"].tolist() == [0.5, 0.5]

    submission = pd.read_csv(run.submit_file())
    test = frame[48:].set_index("id", drop=False)
    before = files(open_store(run.config).root)
    found = run.predict(test)
    assert files(open_store(run.config).root) == before
    outputs = result.card.task.outputs
    pred_NK = found[[f"pred_{output}" for output in outputs]].to_numpy()
    np.testing.assert_allclose(pred_NK, stored_blend(run.config, test["id"]), atol=1e-6)
    assert found.index.equals(test.index)
    targets = list(result.card.task.targets)
    labels = [name for name in found if name.startswith("label")]
    assert labels == {
        "multilabel": ["label_nice", "label_nasty"],
        "regression": [],
    }.get(task, ["label"])
    wanted = found[labels] if labels else pd.DataFrame(pred_NK, test.index)
    assert submission["id"].tolist() == test["id"].tolist()
    if labels:
        assert submission[targets].to_numpy().tolist() == wanted.to_numpy().tolist()
    else:
        np.testing.assert_allclose(submission[targets], wanted, atol=1e-6)

    some = run.predict(pd.DataFrame({"text": [test["text"].iloc[3], None]}, index=["x", "y"]))
    assert some.index.tolist() == ["x", "y"]
    np.testing.assert_allclose(some.iloc[0, : len(outputs)].astype(float), pred_NK[3], atol=1e-5)


def test_the_same_frames_make_the_same_run_and_others_are_refused(make, tmp_path):
    run, frame = make()
    before = files(tmp_path)
    assert {path.name for path in before} == {
        "train.parquet",
        "test.parquet",
        "sample_submission.parquet",
    }
    assert pd.read_parquet(tmp_path / "input/toy/train.parquet").equals(frame[:48])
    make(train=frame[:48].set_index("id"))
    assert files(tmp_path) == before
    with refused(f"{tmp_path}/input/toy/test.parquet holds another table than the DataFrame"):
        make(test=frame[49:].drop(columns="target"))
    with refused("other/train.parquet cannot be written: "):
        make(name="other", train=frame[:48].assign(text=[1, "a"] * 24))
    with refused("train: expected a DataFrame of pandas, got str"):
        make(train="train.csv")
    with refused("test: expected a DataFrame of pandas, got nothing"):
        make(test=None)
    with refused("unknown key 'epochs' (an argument of Run); did you mean 'train.epochs'?"):
        make(epochs=3)
    with refused("folds.n: 'many': input should be a valid integer (an argument of Run)"):
        make(folds={"n": "many"}, set={"folds.n": "many"})
    assert files(tmp_path) == before
    assert repr(run) == f"Run toy in {tmp_path}: binary, f1, 2 members"


def test_members_are_shown_as_far_as_they_are_trained(make, caplog):
    run, frame = make(metric="log_loss")
    board = run.train(poolers=["mean"], folds=1)
    assert board["folds"].to_dict() == {"tiny-mean-s42": 1, "tiny-max-s42": 0}
    assert board["score"].isna().all()
    assert board.loc["tiny-mean-s42", "mean"] > 0
    with pytest.raises(pb.UserError, match="no member of run toy is complete"):
        run.blend()
    stopped = run.train(time_limit=0.001)
    assert "stopped before the time limit" in caplog.text
    assert stopped["folds"].sum() == 1
    run.train(folds=[0, 1], poolers="mean,max")

    oof = run.oof()
    assert list(oof) == ["id", "fold", "target", "tiny-max-s42", "tiny-mean-s42"]
    merged = frame.merge(oof, on="id", suffixes=("", "_here"), validate="1:1")
    assert merged["id"].tolist() == frame["id"][:48].tolist() == oof["id"].tolist()
    assert (merged["target"] == merged["target_here"]).all()
    store = open_store(run.config)
    kept = store.fold("tiny-max-s42", 1).oof().set_index("id")["pred_target"]
    of_fold = oof[oof["fold"] == 1].set_index("id")["tiny-max-s42"]
    assert of_fold.rename(index=str).sort_index().tolist() == kept.sort_index().tolist()
    scores = run.leaderboard()["score"]
    y, p = oof["target"], oof[scores.index[0]]
    assert scores.iloc[0] == pytest.approx(-np.log(np.where(y == 1, p, 1 - p)).mean(), abs=1e-6)
    assert scores.iloc[0] <= scores.iloc[1]


def test_members_of_other_tools_blend_and_rank_but_predict_no_new_rows(finished):
    settings, _, outside = finished
    run = pb.Run.__new__(pb.Run)
    run.config = settings
    assert list(run.oof(members_from=outside))[-2:] == ["gbm", "tiny-mean-s42"]
    run.blend(members_from=outside)
    board = run.leaderboard()
    assert set(board.index) == {"gbm", "tiny-mean-s42"}
    assert np.isnan(board.loc["gbm", "seconds"])
    assert board.loc["gbm", "weight"] == 0.5
    assert board.loc["gbm", "low"] <= board.loc["gbm", "score"] <= board.loc["gbm", "high"]
    with refused("gives weight to members from elsewhere (gbm), which have no models here"):
        run.predict(pd.DataFrame({"text": ["a lovely day"]}))
    run.blend("tiny-mean-s42")
    assert len(run.predict(pd.DataFrame({"text": ["a lovely day"]}))) == 1
    assert run.leaderboard().index.tolist() == ["tiny-mean-s42"]


def test_rows_that_cannot_be_predicted_are_refused_in_one_line(make):
    run, frame = make(members=["mean"])
    with pytest.raises(pb.UserError, match="no blend card"):
        run.predict(frame)
    run.train()
    run.blend()
    with refused("unknown column 'text' in the DataFrame; did you mean 'texts'? known: id, texts"):
        run.predict(frame[["id"]].assign(texts="a"))
    with refused("the DataFrame holds \"['a']\" in column 'text', expected one text or number"):
        run.predict(pd.DataFrame({"text": [["a"]]}))
    with refused("the DataFrame has no rows"):
        run.predict(frame[:0])
    with refused("frame: expected a DataFrame of pandas, got list"):
        run.predict(["a lovely day"])
    with refused("--workers '0': expected auto or a number"):
        run.predict(frame, workers=0)
    assert run.predict(frame[["text"]])["pred_target"].between(0, 1).all()


def test_a_config_and_a_command_share_what_the_api_has_made(toy, tmp_path):
    path = toy()
    run = pb.Run(path, set=SMALL, members=["mean"])
    run.train()
    assert run.config == config.load(path, values=SMALL | {"members": ["mean"]})
    pipeline.blend(run.config)
    assert pb.Run(path, folder=tmp_path / "store", set=SMALL, members=["mean"]).config == run.config
    assert run.leaderboard()["weight"].tolist() == [1.0]
    with refused("give a config or DataFrames"):
        pb.Run(path, train=pd.DataFrame())


def test_train_and_test_may_lack_ids(make):
    frame = toys.toy_frame("binary", 50)
    run, _ = make(members=["mean"], id=None, train=frame[:40], test=frame[40:][["text"]])
    run.train()
    run.blend()
    assert pd.read_csv(run.submit_file())["id"].tolist() == list(range(10))
    assert list(run.predict(frame[["text"]])) == ["pred_target", "label"]


def test_the_page_shows_what_works(toy, tiny_backbone, tmp_path, monkeypatch):
    path = toy(name="mine", n=40)
    for file in (path.parent / "data").glob("*.csv"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    monkeypatch.chdir(tmp_path)
    whole = pb.Run.__init__

    def small(self, path=None, **keys):
        sets = SMALL | {"backbone": str(tiny_backbone)} | keys.pop("set", {})
        whole(self, path, set=sets, **keys)

    monkeypatch.setattr(pb.Run, "__init__", small)
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, flags=re.S)
    assert len(blocks) > 8
    names = {"__name__": "page"}
    for block in blocks:
        exec(block, names)  # the document is ours
    assert names["run"].config.run == "mine"
    assert names["board"]["folds"].tolist() == [2, 2]
    methods = {name for name in vars(pb.Run) if not name.startswith("_")}
    assert {name for name in methods if f"run.{name}(" not in page} == set()


def test_importing_poolblend_takes_no_time_and_its_log_is_shown_where_nothing_is_set_up(toy):
    probe = (
        f"import sys; sys.path.insert(0, {str(ROOT / 'src')!r})\n"
        "import poolblend as pb\n"
        "assert set(sys.modules) & {'torch', 'pandas', 'numpy', 'pydantic'} == set()\n"
        "assert 'Run' in dir(pb)\n"
        f"run = pb.Run({str(toy(n=20))!r}, members=['mean'])\n"
        "assert set(sys.modules) & {'torch', 'transformers'} == set()\n"
        "run.train(folds=0)\n"
        f"print('loud until here'); run = pb.Run({str(toy(n=20))!r}, quiet=True)\n"
        "run.train(folds=1)\n"
        "try:\n"
        "    run.train('maxx')\n"
        "except pb.UserError as error:\n"
        "    print(error._render_traceback_())\n"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    loud, quiet = done.stdout.split("loud until here\n")
    assert loud.count("[1/1] tiny-mean-s42 fold 0: epoch 1 of 2: ") == 1
    assert quiet.startswith("[\"error: unknown pooler 'maxx'; did you mean 'max'? known: ")
    assert quiet.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize("guard", [True, False])
def test_a_script_with_workers_needs_the_guard(toy, tmp_path, guard):
    path = toy(n=20)
    work = f"pb.Run({str(path)!r}, members=['mean']).train(workers=2)"
    lines = [f"import sys; sys.path.insert(0, {str(ROOT / 'src')!r})", "import poolblend as pb"]
    lines += ["if __name__ == '__main__':", f"    {work}"] if guard else [work]
    (tmp_path / "script.py").write_text("\n".join(lines))
    done = subprocess.run([sys.executable, tmp_path / "script.py"], capture_output=True, text=True)
    assert (done.returncode == 0) is guard, done.stderr
    if not guard:
        assert "put all but its imports and functions below `if __name__" in done.stderr

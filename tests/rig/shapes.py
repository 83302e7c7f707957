"""Competitions of many shapes, as folders of tables, each with the config that it asks for.

A shape is a function of a random generator: its tables by file name, and the config's keys.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from rig.toys import FILLER, WORDS

N, N_TEST = 60, 12
SAMPLE = "sample_submission.csv"


def sentences(n, rng, least=6, most=14):
    words = [*FILLER, *(word for group in WORDS.values() for word in group)]
    return [" ".join(rng.choice(words, rng.integers(least, most))) for _ in range(n)]


def ids(n, start="r"):
    return [f"{start}{i:03d}" for i in range(n)]


def split(frame, targets, sample=0, id="id"):
    """train, test and sample submission: the last rows are test, without the targets."""
    train, test = frame[:N], frame[N:].drop(columns=targets)
    return train, test, test[[id]].assign(**dict.fromkeys(targets, sample))


def plain(frame, targets, sample=0, id="id"):
    train, test, submission = split(frame, targets, sample, id)
    return {"train.csv": train, "test.csv": test, SAMPLE: submission}


def base(rng, **columns):
    n = N + N_TEST
    return pd.DataFrame({"id": ids(n), "text": sentences(n, rng)} | columns)


def labels(rng, values, n=N + N_TEST):
    """Every value in turn, so that each is in every fold, and then shuffled."""
    return rng.permutation(np.resize(np.array(values, dtype=object), n))


def tweets(rng):
    """0 and 1, fewer of 1; short texts beside the long one, with gaps."""
    frame = base(rng, target=labels(rng, [0, 0, 1]))
    frame.insert(1, "keyword", labels(rng, ["fire", "flood", None]))
    keys = {"task": "binary", "metric": "f1", "data.text": ["text"], "data.target": ["target"]}
    return plain(frame, ["target"]), keys | {"max_length": 64}


def essays(rng):
    """Files and columns of other names; probabilities to submit, and labels that are words."""
    frame = base(rng, label=labels(rng, ["AI", "human"])).rename(columns={"text": "essay"})
    train, test, sample = split(frame, ["label"], 0.1)
    names = ("training.csv", "test_essays.csv", "sampleSubmission.csv")
    keys = {"metric": "roc_auc", "data.text": ["essay"], "data.target": ["label"]}
    keys |= {"data.train": names[0], "data.test": names[1], "data.sample_submission": names[2]}
    return dict(zip(names, (train, test, sample), strict=True)), keys | {"data.positive": None}


def two_words(rng):
    """Two labels of which nothing says which counts as 1."""
    frame = base(rng, side=labels(rng, ["left", "left", "right"]))
    keys = {"task": "binary", "metric": "f1", "data.positive": "right"}
    return plain(frame, ["side"], "left"), keys


def topics(rng):
    """Labels that are words, submitted as they are."""
    frame = base(rng, label=labels(rng, ["sport", "arts", "law"]))
    keys = {"task": "multiclass", "metric": "accuracy", "data.target": ["label"]}
    return plain(frame, ["label"], "law"), keys


def authors(rng):
    """One column of labels; the sample has a column for each."""
    frame = base(rng, author=labels(rng, ["EAP", "HPL", "MWS"]))
    tables = plain(frame, ["author"])
    columns = dict.fromkeys(["EAP", "HPL", "MWS"], 0.3)
    tables[SAMPLE] = tables[SAMPLE][["id"]].assign(**columns)
    return tables, {"task": "multiclass", "metric": "log_loss", "data.target": ["author"]}


def emotions(rng):
    """Columns of 0 and 1, of which several or none may be 1."""
    columns = {name: labels(rng, [0, 1, 0]) for name in ("joy", "fear", "grief")}
    keys = {"task": "multilabel", "metric": "roc_auc_macro"}
    return plain(base(rng, **columns), list(columns), 0.5), keys | {"data.target": list(columns)}


def winners(rng):
    """Columns of 0 and 1, one of them 1 in each row; three texts."""
    won = labels(rng, [0, 1, 2])
    columns = {f"winner_{name}": (won == k).astype(int) for k, name in enumerate("ab")}
    columns["winner_tie"] = (won == 2).astype(int)
    answers = {f"response_{name}": sentences(N + N_TEST, rng) for name in "ab"}
    keys = {"task": "multiclass", "metric": "log_loss", "data.target": list(columns)}
    keys["data.text"] = ["text", "response_a", "response_b"]
    return plain(base(rng, **answers, **columns), list(columns), 0.3), keys


def scores(rng):
    """Whole numbers on a scale; a column of ids of another name; long texts."""
    frame = base(rng, score=labels(rng, [1, 2, 3, 4])).rename(columns={"id": "essay_id"})
    frame["text"] = sentences(len(frame), rng, 130, 160)
    keys = {"task": "ordinal", "metric": "qwk", "data.id": "essay_id", "max_length": 192}
    return plain(frame, ["score"], 1, "essay_id"), keys


def summaries(rng):
    """Two values; prompts in tables of their own, and others in test."""
    frame = base(rng, content=rng.normal(size=N + N_TEST), wording=rng.normal(size=N + N_TEST))
    frame.insert(1, "prompt_id", [f"p{i % 3}" for i in range(N)] + ["p7", "p8"] * (N_TEST // 2))
    train, test, sample = split(frame, ["content", "wording"], 0.0)
    questions = {"prompt_question": sentences(5, rng), "prompt_text": sentences(5, rng, 90, 99)}
    prompts = pd.DataFrame({"prompt_id": ["p0", "p1", "p2", "p7", "p8"]} | questions)
    tables = {"summaries_train.csv": train, "summaries_test.csv": test, SAMPLE: sample}
    tables |= {"prompts_train.csv": prompts[:3], "prompts_test.csv": prompts[3:]}
    keys = {"task": "regression", "metric": "mcrmse", "data.target": ["content", "wording"]}
    keys |= {"data.text": ["prompt_question", "text"], "data.join": "pair"}
    keys |= {"folds.groups": "prompt_id", "folds.n": 3}
    keys |= {"data.train": "summaries_train.csv", "data.test": "summaries_test.csv"}
    return tables, keys


def questions(rng):
    """Two texts of about one length, and nothing else."""
    frame = base(rng, question2=sentences(N + N_TEST, rng), same=labels(rng, [0, 1]))
    frame = frame.rename(columns={"text": "question1"})
    keys = {"metric": "accuracy", "data.text": ["question1", "question2"], "data.join": "pair"}
    return plain(frame, ["same"]), keys


def phrases(rng):
    """Short texts in all columns, one of them called target; a value in steps."""
    frame = base(rng, score=labels(rng, [0, 0.25, 0.5, 0.75, 1])).rename(columns={"text": "anchor"})
    frame["anchor"] = sentences(len(frame), rng, 2, 4)
    frame.insert(2, "target", sentences(len(frame), rng, 2, 4))
    frame.insert(3, "context", labels(rng, ["A47", "B02", "H04"]))
    keys = {"task": "regression", "metric": "rmse", "data.target": ["score"]}
    return plain(frame, ["score"], 0), keys | {"data.text": ["anchor", "target"]}


def without_ids(rng):
    """Only the sample has ids; test has numbers and categories beside the text."""
    frame = base(rng, length=rng.integers(1, 900, N + N_TEST), price=rng.normal(size=N + N_TEST))
    train, test, sample = split(frame, ["price"], 0.0)
    tables = {"train.csv": train.drop(columns="id"), "test.csv": test.drop(columns="id")}
    keys = {"task": "regression", "metric": "rmse", "data.id": None, "data.text": ["text"]}
    return tables | {SAMPLE: sample}, keys | {"data.target": ["price"], "data.numeric": []}


def other_names(rng):
    """The sample's column is not called like train's, whose further columns test lacks."""
    frame = base(rng, label=labels(rng, ["pos", "neg"]), rater=labels(rng, ["x", "y"]))
    tables = plain(frame, ["label", "rater"])
    tables[SAMPLE] = tables[SAMPLE][["id"]].assign(prediction="neg")
    return tables, {"task": "binary", "data.target": ["label"], "metric": "accuracy"}


def parquet(rng):
    """Columns of odd names, which YAML would read as something else."""
    columns = {"no: 1": labels(rng, [0, 1, 0]), "yes": labels(rng, [0, 1, 1])}
    frame = base(rng, **columns).rename(columns={"text": "# a  text", "id": "007"})
    train, test, sample = split(frame.astype({"no: 1": int, "yes": int}), list(columns), 0, "007")
    names = ("train.parquet", "test.parquet", SAMPLE)
    keys = {"task": "multilabel", "metric": "f1_macro", "data.target": ["no: 1", "yes"]}
    keys |= {"data.text": ["# a  text"], "data.id": "007", "data.train": "train.parquet"}
    return dict(zip(names, (train, test, sample), strict=True)), keys


SHAPES = {
    shape.__name__: shape
    for shape in (
        *(tweets, essays, two_words, topics, authors, emotions, winners, scores, summaries),
        *(questions, phrases, without_ids, other_names, parquet),
    )
}


def write_shape(folder: Path, name: str) -> dict[str, object]:
    """Write the shape's tables into the folder; the keys of its config."""
    tables, keys = SHAPES[name](np.random.default_rng(0))
    folder.mkdir()
    for file, table in tables.items():
        write = table.to_parquet if file.endswith(".parquet") else table.to_csv
        write(folder / file, index=False)
    return keys

"""Shipped configs for competitions whose data is not at hand: tables of their published shape."""

import numpy as np
import pandas as pd
import pytest

from poolblend import config, pipeline

N, N_TEST = 60, 12
QUICK = [
    "members=[tfidf, {model: tfidf, head: nb}]",
    "folds.n=2",
    "blend={resamples: 50, fitters: [equal]}",
]


def student_maths(rng, n):
    kind = np.resize(["True_Correct", "False_Misconception", "False_Neither"], n)
    words = {"True_Correct": "half", "False_Misconception": "whole", "False_Neither": "unsure"}
    table = pd.DataFrame(
        {
            "row_id": np.arange(n),
            "QuestionId": rng.integers(31772, 31774, n),
            "QuestionText": "What fraction is shaded?",
            "MC_Answer": rng.choice(["1/3", "3/6"], n),
            "StudentExplanation": [f"I think {words[each]} of {i}" for i, each in enumerate(kind)],
            "Category": kind,
            "Misconception": np.where(kind == "False_Misconception", "Incomplete", "NA"),
        }
    )
    sample = {"Category:Misconception": "True_Correct:NA False_Neither:NA True_Correct:NA"}
    return table, ["Category", "Misconception"], sample


def community_rules(rng, n):
    broken = np.resize([0, 1, 1, 0], n)
    table = pd.DataFrame(
        {
            "row_id": np.arange(n),
            "body": [f"buy now {i}{' free' * each}" for i, each in enumerate(broken)],
            "rule": np.resize(["No Advertising", "No legal advice"], n),
            "subreddit": rng.choice(["soccer", "law"], n),
            **{f"{kind}_example_{i}": "text" for kind in ("positive", "negative") for i in (1, 2)},
            "rule_violation": broken,
        }
    )
    return table, ["rule_violation"], {"rule_violation": 0.5}


def chatbot_arena(rng, n):
    winner = np.resize(["winner_model_a", "winner_model_b", "winner_tie"], n)
    table = pd.DataFrame(
        {
            "id": np.arange(n),
            "model_a": "gpt",
            "model_b": "llama",
            "prompt": [f'["Say hello to {i}"]' for i in range(n)],
            "response_a": [
                f'["{"good" if w == "winner_model_a" else "poor"} one"]' for w in winner
            ],
            "response_b": [
                f'["{"fine" if w == "winner_model_b" else "weak"} two"]' for w in winner
            ],
        }
    )
    columns = ["winner_model_a", "winner_model_b", "winner_tie"]
    table[columns] = [[int(each == column) for column in columns] for each in winner]
    return table, columns, dict.fromkeys(columns, 1 / 3)


def write_questions(data, table):
    """Write which labels each question may have; the settings that read it."""
    labels = [
        ":".join(pair) for pair in table[["Category", "Misconception"]].drop_duplicates().to_numpy()
    ]
    questions = pd.DataFrame({"QuestionId": sorted(set(table["QuestionId"]))})
    questions.assign(labels=" ".join(labels)).to_csv(data / "questions.csv", index=False)
    return ["data.joins=[{train: questions.csv, on: QuestionId}]", "data.possible=labels"]


FORMATS = {
    "student-maths": student_maths,
    "community-rules": community_rules,
    "chatbot-arena": chatbot_arena,
}


@pytest.mark.parametrize("name", FORMATS)
def test_tables_of_the_published_shape_become_a_submission(name, tmp_path):
    table, targets, filled = FORMATS[name](np.random.default_rng(0), N + N_TEST)
    data = tmp_path / "data"
    data.mkdir()
    train, test = table[:N], table[N:].drop(columns=targets)
    id = table.columns[0]
    sample = test[[id]].assign(**filled)
    for file, each in (("train", train), ("test", test), ("sample_submission", sample)):
        each.to_csv(data / f"{file}.csv", index=False)
    own = [f"data.dir={data}", f"store={tmp_path / 'store'}", *QUICK]
    if name == "student-maths":
        own += write_questions(data, table)
    settings = config.load(config.ROOT / "configs" / f"{name}.yaml", own)
    pipeline.train(settings)
    pipeline.blend(settings)
    submission = pd.read_csv(pipeline.infer(settings))
    assert list(submission.columns) == list(sample.columns)
    assert submission[id].tolist() == sample[id].tolist()
    if name == "student-maths":
        truth = table[N:][targets].agg(":".join, axis=1)
        cells = submission["Category:Misconception"].str.split(" ")
        assert all(len(cell) == len(set(cell)) == 3 for cell in cells)
        assert np.mean([cell[0] == y for cell, y in zip(cells, truth, strict=True)]) > 0.9
    else:
        assert submission[targets].to_numpy().dtype == np.float64
        pred_NK = submission[targets].to_numpy()
        right_N = pred_NK.argmax(axis=1) if len(targets) > 1 else pred_NK[:, 0] > 0.5
        wanted = table[N:][targets].to_numpy()
        truth_N = wanted.argmax(axis=1) if len(targets) > 1 else wanted[:, 0]
        assert np.mean(right_N == truth_N) > 0.9

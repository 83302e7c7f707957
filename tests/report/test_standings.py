"""How far members are: the table that a training ends with."""

import statistics

import pytest

from poolblend import config, pipeline
from poolblend.report.standings import Standing, standings_table


def table(caplog, settings, **chosen):
    caplog.clear()
    with caplog.at_level("INFO", logger="poolblend"):
        pipeline.train(settings, **chosen)
    return caplog.records[-1].getMessage().splitlines()[1:]


def test_a_training_ends_with_a_line_per_member(toy, caplog):
    settings = config.load(toy())
    title, headings, *rows = table(caplog, settings)
    assert title == "f1:"
    named = [heading.strip() for heading in headings.split("  ") if heading.strip()]
    assert named == [
        "member",
        "folds",
        *(f"fold {k}" for k in range(3)),
        "mean ± sd",
        "OOF",
        "seconds",
    ]
    assert [row.split()[0] for row in rows] == ["tiny-mean-s42", "tiny-max-s42"]
    assert len({len(row) for row in (headings, *rows)}) == 1  # right edges agree
    words = rows[0].split()
    scores = [float(word) for word in words[4:7]]
    assert words[1:4] == ["3", "of", "3"]
    assert float(words[7]) == pytest.approx(statistics.mean(scores), abs=1e-4)
    assert float(words[9]) == pytest.approx(statistics.stdev(scores), abs=1e-4)
    assert words[10] == f"{oof_f1(settings):.4f}"


def oof_f1(settings):
    """F1 over all rows together, which is not the mean of the folds'."""
    import pandas as pd
    from sklearn.metrics import f1_score

    from poolblend.loading.competition import open_store

    oof = pd.concat([open_store(settings).fold("tiny-mean-s42", fold).oof() for fold in range(3)])
    truth = pd.read_csv(settings.data_dir / "train.csv").set_index("id")["target"]
    return f1_score(truth.loc[oof["id"]], oof.iloc[:, -1] >= 0.5)


def test_a_member_of_which_folds_are_missing_has_no_score_over_all_rows(toy, caplog):
    row = table(caplog, config.load(toy()), poolers="mean", folds="1")[-1].split()
    assert row[:4] == ["tiny-mean-s42", "1", "of", "3"]
    assert len(row) == 7  # its fold's score, the mean of one, seconds


def test_folds_are_shown_while_they_fit_and_undefined_scores_are_left_empty():
    few = Standing("a", 2, {0: 0.5, 1: None}, 3.4, ())
    assert standings_table([few], oof={"a": "undefined"})[1].split() == (
        ["a", "2", "of", "2", "0.5000", "0.5000", "undefined", "3"]
    )
    many = Standing("b", 6, dict.fromkeys(range(6), 0.25), 60, ())
    headings, row = standings_table([many], oof={"b": "0.2600"})
    assert "fold" not in headings.replace("folds", "")
    assert row.split() == ["b", "6", "of", "6", "0.2500", "±", "0.0000", "0.2600", "60"]

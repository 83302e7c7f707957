"""The short list of a screening: strong poolers, and among them different ones."""

import numpy as np

from poolblend.ensembling.resampling import Gain
from poolblend.report.screening import Screened, describe_screening, short_list

SAME, WORSE = Gain(-0.01, -0.03, 0.01), Gain(-0.2, -0.3, -0.1)


def screened(*gains):
    return [Screened(f"p{i}", 0.9 - i / 100, each, 1.0) for i, each in enumerate(gains)]


def correlations(n, **pairs):
    matrix = np.full((n, n), 0.9)
    np.fill_diagonal(matrix, 1)
    for pair, value in pairs.items():
        i, j = map(int, pair[1:].split("_"))
        matrix[i, j] = matrix[j, i] = value
    return matrix


def test_the_best_is_first_and_then_what_differs_most_from_those_chosen():
    found = short_list(screened(SAME, SAME, SAME, SAME), correlations(4, c0_2=0.5, c2_1=0.4))
    assert found == [0, 2, 1, 3]


def test_a_pooler_that_rows_tell_to_be_worse_is_left_out_however_different():
    assert short_list(screened(SAME, WORSE, SAME), correlations(3, c0_1=0.0)) == [0, 2]


def test_no_more_than_five_are_suggested_and_an_undefined_correlation_is_no_difference():
    matrix = correlations(7, c0_6=np.nan)
    found = short_list(screened(*[SAME] * 7), matrix)
    assert len(found) == 5
    assert 6 not in found


def test_the_lines_name_scores_intervals_and_what_another_seed_changes():
    rows = [
        Screened("max", 0.91, Gain(0.0, 0.0, 0.0), 3.0),
        Screened("mean", 0.90, SAME, 2.0),
        Screened("mean", 0.895, SAME, 2.0),
        Screened("min", 0.70, WORSE, 2.0),
    ]
    text = "\n".join(describe_screening(rows, correlations(4, c1_2=0.95), 2, "f1", 0))
    assert "mean, another seed" in text
    assert "0.0100 (-0.0100 to +0.0300)" in text
    assert "changes the score of mean by 0.0050" in text
    assert "by 0.950" in text
    assert "cannot tell 1 of the other 2 poolers" in text
    assert text.endswith("--pooler max,mean")

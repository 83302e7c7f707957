"""The short list of a screening: strong poolers, and among them different ones."""

import numpy as np

from poolblend.ensembling.resampling import Gain
from poolblend.report.screening import Screened, describe_screening, short_list

SAME, WORSE = Gain(-0.01, -0.03, 0.01), Gain(-0.2, -0.3, -0.1)


def screened(*gains):
    return [Screened(f"p{i}", 0.9 - i / 100, each, 1.0) for i, each in enumerate(gains)]


def products(*errors):
    errors_MX = np.array(errors, dtype=float)
    return errors_MX @ errors_MX.T / errors_MX.shape[1]


def test_the_best_is_first_and_then_what_cancels_most_of_its_errors():
    like_the_best, opposite, weak = [1, -1, 1, 1], [-1, 1, 1, 1], [-3, 3, 3, 3]
    found = short_list(
        screened(SAME, SAME, SAME, SAME), products([1, -1, 1, -1], weak, opposite, like_the_best)
    )
    assert found == [0, 2, 3, 1]


def test_a_pooler_that_rows_tell_to_be_worse_is_left_out_however_different():
    found = short_list(screened(SAME, WORSE, SAME), products([1, 1], [-1, -1], [1, 1]))
    assert found == [0, 2]


def test_no_more_than_five_are_suggested():
    assert len(short_list(screened(*[SAME] * 7), products(*np.eye(7)))) == 5


def test_the_lines_name_scores_intervals_and_what_another_seed_changes():
    rows = [
        Screened("max", 0.91, Gain(0.0, 0.0, 0.0), 3.0),
        Screened("mean", 0.90, SAME, 2.0),
        Screened("mean", 0.895, SAME, 2.0),
        Screened("min", 0.70, WORSE, 2.0),
    ]
    errors_MX = np.random.default_rng(0).normal(size=(4, 50))
    errors_MX[2] = errors_MX[1] + 0.3 * errors_MX[2]
    alike = np.corrcoef(errors_MX[1], errors_MX[2])[0, 1]
    text = "\n".join(describe_screening(rows, errors_MX, 2, "f1", 0))
    assert "mean, another seed" in text
    assert "0.0100 (-0.0100 to +0.0300)" in text
    assert "changes the score of mean by 0.0050" in text
    assert f"by {alike:.3f}" in text
    assert "cannot tell 1 of the other 2 poolers" in text
    assert text.endswith("--pooler max,mean")

"""Correlations of members equal NumPy's, and constant members raise no warnings."""

from __future__ import annotations

import numpy as np
import pytest

from poolblend.ensembling.diversity import error_correlation, prediction_correlation

RNG = np.random.default_rng(0)
OOF_MNK = RNG.random((4, 50, 3))


def test_one_output_gives_numpys_correlation() -> None:
    np.testing.assert_allclose(
        prediction_correlation(OOF_MNK[:, :, :1]), np.corrcoef(OOF_MNK[:, :, 0]), atol=1e-12
    )


def test_several_outputs_are_averaged_so_their_levels_and_scales_do_not_count() -> None:
    each = [np.corrcoef(OOF_MNK[:, :, k]) for k in range(3)]
    np.testing.assert_allclose(
        prediction_correlation(OOF_MNK * [1, 10, 1e-3] + [5, 0, -1]),
        np.mean(each, axis=0),
        atol=1e-9,
    )


@pytest.mark.parametrize("kind", ["binary", "multiclass", "multilabel", "regression"])
def test_errors_are_prediction_minus_truth_on_every_kind_of_task(kind: str) -> None:
    y, oof_MNK, truth_NK = RNG.integers(0, 3, 50), OOF_MNK, np.zeros((50, 3))
    if kind == "multiclass":
        for n in range(50):
            truth_NK[n, y[n]] = 1
    elif kind == "binary":
        y, oof_MNK = RNG.integers(0, 2, 50), OOF_MNK[:, :, :1]
        truth_NK = y[:, None]
    else:
        y = truth_NK = RNG.integers(0, 2, (50, 3))
    each = [np.corrcoef((oof_MNK - truth_NK)[:, :, k]) for k in range(oof_MNK.shape[2])]
    np.testing.assert_allclose(
        error_correlation(oof_MNK, y, kind), np.mean(each, axis=0), atol=1e-12
    )


def test_copies_and_opposites_reach_the_bounds() -> None:
    first_NK = OOF_MNK[0]
    corr_MM = prediction_correlation(np.stack([first_NK, 2 * first_NK + 1, -first_NK]))
    np.testing.assert_allclose(corr_MM, [[1, 1, -1], [1, 1, -1], [-1, -1, 1]])
    assert np.abs(corr_MM).max() <= 1


@pytest.mark.parametrize("value", [0.0, 0.1, 1e9])
def test_a_constant_member_has_no_correlation_and_costs_the_others_nothing(value: float) -> None:
    oof_MNK = OOF_MNK.copy()
    oof_MNK[2] = value
    corr_MM = prediction_correlation(oof_MNK)
    others = np.ix_([0, 1, 3], [0, 1, 3])
    assert np.isnan(corr_MM[2]).all()
    assert np.isnan(corr_MM[:, 2]).all()
    np.testing.assert_allclose(corr_MM[others], prediction_correlation(OOF_MNK)[others])


def test_an_output_on_which_a_member_is_constant_is_left_out_of_its_average() -> None:
    oof_MNK = OOF_MNK.copy()
    oof_MNK[1, :, 0] = 0.5
    corr_MM = prediction_correlation(oof_MNK)
    assert corr_MM[0, 1] == pytest.approx(prediction_correlation(OOF_MNK[:, :, 1:])[0, 1])
    assert corr_MM[0, 2] == pytest.approx(prediction_correlation(OOF_MNK)[0, 2])

"""The study of poolers: its statistics find what a simulated matrix was made of."""

import numpy as np
import pandas as pd
import pytest

import pooler_answers as answers
import pooler_matrix
import pooler_page
from pooler_grid import POOLERS, SEEDS, STUDIED, members
from pooler_matrix import estimate, holm, load, member_of, name_of

N = 400
POOLER, SEED, OWN = 0.5, 0.3, 0.8  # standard deviations of log odds


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A matrix of two classes in which what a prediction varies with is known."""
    rng = np.random.default_rng(1)
    y_N = rng.integers(0, 2, N)
    signal_N = (2 * y_N - 1) * 1.0 + rng.normal(size=N)
    of_pooler = {pooler: POOLER * rng.normal(size=N) for pooler in POOLERS}
    of_seed = {seed: SEED * rng.normal(size=N) for seed in range(1, 9)}
    table = {"id": np.arange(N).astype(str), "fold": np.arange(N) % 3, "target": y_N}
    for member in members(STUDIED["trec"]):
        name = name_of(member)
        if "model" in member:
            odds_N = signal_N + 2 * rng.normal(size=N)
        else:
            chance_N = OWN * rng.normal(size=N) + of_seed[member["seed"]]
            odds_N = signal_N + of_pooler[member["pooler"]] + chance_N
        table[name] = (1 / (1 + np.exp(-odds_N))).astype(np.float32)
    made = tmp_path_factory.mktemp("matrix")
    (made / "trec").mkdir()
    pd.DataFrame(table).to_parquet(made / "trec" / "oof.parquet")
    named = list(table)[3:]
    costs = {"member": named, "train_seconds": 9.0, "parameters_above_encoder": 385}
    pd.DataFrame(costs).to_csv(made / "trec" / "members.csv", index=False)
    return made


@pytest.fixture(scope="module")
def matrix(folder):
    return load("trec", folder)


def test_every_member_is_found_by_its_name(matrix):
    assert len(matrix.predictions) == len(list(members(STUDIED["trec"])))
    assert matrix.seeds == tuple(range(1, 9))
    assert {pooler: len(matrix.seeds_of(pooler)) for pooler in POOLERS} == SEEDS
    assert member_of("mean_kmax-s3").name == "mean_kmax-s3"
    assert member_of("mean-short-s3") == ("mean", "short", 3)


def test_the_components_of_the_variance_are_those_simulated(matrix):
    true = np.array([POOLER, SEED, OWN]) ** 2
    found = estimate(answers.components, matrix.of_seeds(6))
    assert found.value == pytest.approx(true / true.sum(), abs=0.05)
    assert ((found.low < found.value) & (found.value < found.high)).all()


def test_errors_are_most_alike_where_members_have_most_in_common(matrix):
    same_pooler, same_seed, neither = answers.error_correlations(matrix.of_seeds(4))
    assert same_pooler > same_seed > neither


def test_mixing_poolers_gains_what_their_own_variance_is_worth(matrix):
    found = answers.scheme_differences(matrix.of_seeds(6), 4)
    assert (found.low[:2] > 0).all()
    assert found.value[0] == pytest.approx(found.value[1] - found.value[2], abs=1e-12)
    pure = answers.blend_losses(matrix.of_seeds(6), answers.both(matrix.of_seeds(6), ["max"], 1))
    assert pure[:, 1] == pytest.approx(0, abs=1e-12)


def test_a_difference_of_nothing_is_within_its_interval():
    """The standard error of the jackknife is that of a mean over rows and seeds."""
    rng = np.random.default_rng(3)
    within, draws = 0, 60
    for _ in range(draws):
        predictions = {}
        of_row_N = rng.normal(size=80)
        for seed in range(1, 6):
            value_N = of_row_N + rng.normal() * 0.3 + rng.normal(size=80)
            predictions[pooler_matrix.Member("mean", "", seed)] = value_N[:, None]
        rows = np.arange(80)
        made = pooler_matrix.Matrix(rows * 0, rows % 3, rows % 20, predictions, (1, 2, 3, 4, 5))
        found = estimate(
            lambda part: [np.mean([part.pred("mean", s).mean() for s in part.seeds])], made
        )
        within += found.low[0] < 0 < found.high[0]
    assert within / draws >= 0.9


def test_holm_corrects_as_the_paper_does():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])


def test_fitted_weights_are_scored_on_rows_that_they_were_not_fitted_on(matrix):
    found = list(answers.fitted(matrix.of_seeds(4), [2], draws=1, trials=5))
    assert [each[:2] for each in found] == [(2, name) for name in answers.FITTERS]
    assert all(low < gain < high for _, _, gain, low, high in found)


def test_a_competition_is_left_off_the_page_until_all_its_members_are_trained(
    folder, tmp_path, capsys
):
    assert pooler_page._is_whole("trec", folder)
    costs = pd.read_csv(folder / "trec" / "members.csv")
    (tmp_path / "trec").mkdir()
    costs[:-2].to_csv(tmp_path / "trec" / "members.csv", index=False)
    assert not pooler_page._is_whole("trec", tmp_path)
    assert f"{len(costs) - 2} of {len(costs)} members are trained" in capsys.readouterr().out

"""`blend.budget`: the blend of members that infer.py can run in time, and what it is told."""

import pandas as pd
import pytest

from poolblend import pipeline
from poolblend.errors import UserError
from poolblend.loading.competition import open_store
from poolblend.report.tables import budget_levels, show
from rig.edited import edit_card

MEAN, MAX = "tiny-mean-s42", "tiny-max-s42"


@pytest.fixture
def timed(trained, tmp_path):
    """Function of further config keys: the settings, with seconds a row of our own in the cards."""
    store = open_store(trained())
    for name, seconds in ((MEAN, 4.0), (MAX, 1.0)):
        for fold in range(3):
            set_time(store, name, fold, {"rows": 12, "seconds": 12 * seconds / 3, "states": None})
    return trained


def set_time(store, name, fold, prediction):
    path = store.fold(name, fold).folder / "card.json"
    edit_card(path, lambda card: card.update(prediction=prediction))


def test_only_members_that_fit_are_blended_and_run(timed, caplog):
    settings = timed("blend.budget=10s")  # of 8 rows
    result = pipeline.blend(settings)
    assert list(result.card.used_members) == [MAX]
    use = result.card.budget
    assert (use.limit, use.rows, use.needed) == (10, 8, 8)
    assert result.choice.member == MAX
    *limited, unlimited = use.levels
    assert next((level.seconds, level.members) for level in limited) == (8, (MAX,))
    assert (unlimited.limit, unlimited.seconds) == (None, 40)
    assert unlimited.members == (MAX, MEAN)
    (own,) = [level for level in use.levels if level.limit == 10]
    assert own.honest == result.reports["equal"].honest
    printed = show(result.card)
    text = " ".join(printed.split())
    assert f"Within 10s for 8 rows: 1 of 2 members ({MAX}), about 8 s" in text
    assert "Without a limit, equal takes about 40 s (2 of 2 members) and scores" in text
    assert printed.count("<- the budget") == 1
    assert printed.splitlines() == [line.rstrip() for line in printed.splitlines()]
    with caplog.at_level("INFO", logger="poolblend"):
        pipeline.infer(settings)
    assert "running 1 of 2 members" in caplog.text
    assert not open_store(settings).test_path(MEAN, 0).exists()
    assert open_store(settings).read_blend().budget.sentence in pipeline.board(settings).replace(
        "\n", " "
    )


def test_without_a_limit_only_members_with_weight_take_time(timed):
    use = pipeline.blend(timed("blend.budget=2h", "blend.budget_rows=80", "blend.fitter=best")).card
    assert len(use.budget.levels[-1].members) == 1
    assert "(1 of 2 members) and scores" in use.budget.sentence
    limit = next(line for line in show(use).splitlines() if "<- the budget" in line)
    assert limit.startswith("7,200 ")


def test_the_rows_may_be_those_of_a_hidden_table(timed):
    result = pipeline.blend(timed("blend.budget=1m", "blend.budget_rows=15"))
    assert list(result.card.used_members) in ([MAX], [MEAN])  # both together would take 75 s
    assert result.card.budget.rows == 15
    assert result.card.budget.needed in (15, 60)


def test_the_table_marks_the_budget_whatever_the_rows(timed):
    card = pipeline.blend(timed("blend.budget=45s", "blend.budget_rows=39")).card
    assert 45 / 39 * 39 != 45
    assert show(card).count("<- the budget") == 1
    (own,) = (level for level in card.budget.levels if level.limit == 45)
    near = own.model_copy(update={"limit": 45.001})
    use = card.budget.model_copy(update={"levels": (own, near)})
    table = budget_levels(card.model_copy(update={"budget": use}))
    assert list(table.index) == ["45", "45"]
    assert list(table[""]) == ["<- the budget", ""]


def test_a_budget_for_all_members_changes_nothing(timed):
    whole = pipeline.blend(timed()).card
    assert whole.budget is None
    within = pipeline.blend(timed("blend.budget=1h")).card
    assert within.blenders == whole.blenders
    assert within.mixture == whole.mixture
    assert within.budget.levels[-1].honest == whole.blenders["equal"].honest


def test_members_of_other_tools_are_free(timed, tmp_path):
    settings = timed("blend.budget=8s")
    ids = pd.read_csv(settings.data_dir / "train.csv")
    folder = tmp_path / "others"
    folder.mkdir()
    good = ids["target"] * 0.8 + 0.1
    pd.DataFrame({"id": ids["id"], "pred": good}).to_csv(folder / "gbm.csv", index=False)
    card = pipeline.blend(settings, members_from=str(folder)).card
    assert "gbm" in card.used_members
    assert MEAN not in card.used_members
    assert card.budget.free == ("gbm",)
    assert "count as free (gbm)" in card.budget.sentence
    with pytest.raises(UserError, match=r"blend.budget does nothing with members of other tools"):
        pipeline.blend(settings, members=["gbm"], members_from=str(folder))


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        (["blend.budget=1s"], "1 s is too short for every member: the quickest, tiny-max-s42, "),
        (["blend.budget=30"], "blend.budget: '30' has no unit: expected a duration such as"),
        (["blend.budget_rows=9"], "blend.budget_rows does nothing without blend.budget"),
    ],
)
def test_a_budget_that_cannot_be_kept_is_refused(timed, sets, message):
    with pytest.raises(UserError, match=message):
        pipeline.blend(timed(*sets))


def test_members_that_nobody_timed_are_named(timed):
    store = open_store(timed())
    set_time(store, MEAN, 1, None)
    with pytest.raises(UserError, match=f"the seconds that {MEAN} take to predict are not in the"):
        pipeline.blend(timed("blend.budget=1m"))
    assert not store.blend_path.exists()
    pipeline.blend(timed("blend.budget=1m"), members=[MAX])


def test_pseudo_labels_are_of_the_members_that_fit(timed):
    settings = timed("blend.budget=10s")
    pipeline.blend(settings)
    pipeline.write_pseudo_labels(settings, "first")
    card = open_store(settings).pseudo("first").card()
    assert {name for fold in card.folds for name in fold.members} == {MAX}

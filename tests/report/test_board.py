"""`poolblend board`: members and blends with their scores and costs, in three printed forms."""

import json
import re
import statistics
from dataclasses import replace
from html import unescape

import pandas as pd
import pytest
from sklearn.metrics import log_loss

from poolblend import config, pipeline
from poolblend.ensembling.costs import Cost, on_frontier, seconds_together
from poolblend.loading.prediction_costs import prediction_cost
from poolblend.report.board import make_board
from poolblend.report.board_page import to_page
from poolblend.report.board_rows import Value
from poolblend.report.board_text import to_json, to_text
from poolblend.store.cards import write_card
from rig.edited import edit_card

MEMBER = "tiny-mean-s42"


@pytest.fixture
def board(finished):
    def make(settings=finished.settings, device="cpu"):
        return make_board(settings, finished.store, device)

    return make


def by_name(board):
    return {row.member: row for row in board.members}


def test_members_have_the_blends_scores_and_their_cards_costs(finished, board):
    card, made = finished.store.read_blend(), by_name(board())
    assert made.keys() == card.members.keys() == {MEMBER, "gbm"}
    for name, row in made.items():
        member = card.members[name]
        assert row.score == (member.score, member.low, member.high)
        assert row.weight == member.weight
        assert row.loss_without.value == member.without.value
        assert row.fold_sd == pytest.approx(statistics.stdev(member.fold_scores))
    folds = [finished.store.fold(MEMBER, fold).card() for fold in (0, 1)]
    row = made[MEMBER]
    timed = [fold.prediction for fold in folds]
    assert row.predict_seconds == pytest.approx(sum(1000 * t.seconds / t.rows for t in timed))
    assert row.predict_seconds > 0
    assert row.train_seconds == sum(fold.seconds for fold in folds)
    store = finished.store.root
    own = [
        *store.glob(f"models/toy/{MEMBER}/fold*/*"),
        *store.glob(f"oof/toy/{MEMBER}/fold*.parquet"),
    ]
    assert row.bytes == sum(file.stat().st_size for file in own if file.name != "card.json")
    outside = made["gbm"]
    assert outside.outside
    assert (outside.train_seconds, outside.predict_seconds, outside.bytes) == (None, None, None)
    assert [(b.blender, b.honest) for b in board().blends] == [
        (name, scores.honest) for name, scores in card.blenders.items()
    ]
    assert [b.blender for b in board().blends if b.used] == [card.blender]


def test_without_a_blend_scores_come_from_the_stored_predictions(finished, board):
    finished.store.blend_path.unlink()
    made = board()
    (row,) = made.members
    oof = pd.concat([finished.store.fold(MEMBER, fold).oof() for fold in (0, 1)])
    truth = pd.read_csv(finished.settings.data_dir / "train.csv").set_index("id")["target"]
    assert row.score.value == pytest.approx(log_loss(truth.loc[oof["id"]], oof.iloc[:, -1]))
    assert row.score.low < row.score.value < row.score.high
    assert (row.weight, row.loss_without, made.blends) == (None, None, ())
    assert "weight" not in to_text(made)


def test_why_members_are_missing_is_told(finished, board):
    others = config.load(None, ["members=[max]"]).members
    more = finished.settings.model_copy(update={"members": others})
    assert board(more).missing == {"tiny-max-s42": "not trained yet"}
    finished.store.blend_path.unlink()
    finished.store.oof_path(MEMBER, 1).write_bytes(b"")
    made = board()
    assert made.members == ()
    assert made.missing == {MEMBER: "fold 1 damaged; train.py --check shows details"}
    (finished.store.fold(MEMBER, 1).folder / "card.json").unlink()
    assert board().missing == {MEMBER: "lacks fold 1 of 2"}


def test_a_member_trained_again_after_the_blend_is_scored_anew(finished, board):
    files = finished.store.fold(MEMBER, 0)
    card = files.card()
    other = card.files.weights.model_copy(update={"sha256": "0" * 64})
    write_card(
        files.folder / "card.json",
        card.model_copy(update={"files": card.files.model_copy(update={"weights": other})}),
    )
    made = board()
    row = by_name(made)[MEMBER]
    assert row.weight is None
    assert row.score.value == pytest.approx(
        finished.store.read_blend().members[MEMBER].score, abs=1e-9
    )
    assert "was trained again after the blend" in made.missing[MEMBER]


def test_a_damaged_blend_card_is_told_and_ends_nothing(finished, board):
    finished.store.blend_path.write_text("{}")
    made = board()
    assert "damaged" in made.sentence
    assert [row.member for row in made.members] == [MEMBER]


def test_cards_without_seconds_to_predict_stay_valid(finished, board):
    path = finished.store.fold(MEMBER, 0).folder / "card.json"
    edit_card(path, lambda fields: fields.pop("prediction"))
    made = board()
    assert by_name(made)[MEMBER].predict_seconds is None
    assert f"Not timed: {MEMBER}" in to_text(made)
    finished.train()  # nothing is stale
    finished.infer()


def test_another_machine_or_device_is_told(finished, board):
    assert not board().elsewhere
    assert "not this machine with its device" not in to_text(board())
    assert "not this machine with its device" in to_text(board(device="cuda"))


def test_the_three_forms_agree(board):
    made = board()
    text, page, content = to_text(made), to_page(made, "today"), json.loads(to_json(made))
    assert max(map(len, text.splitlines())) <= 100
    told = unescape(re.sub("<[^>]*>", " ", page))
    for row, values in zip(made.members, content["members"], strict=True):
        assert values["member"] == row.member
        assert values["score"] == row.score._asdict()
        assert values["predict_seconds"] == row.predict_seconds
        for form in (text, told):
            assert row.member in form
            assert f"{row.score.value:.4f}" in form
            assert f"{row.weight:.3f}" in form
    for blend in made.blends:
        assert f"{blend.honest:.4f}" in text
        assert f"{blend.honest:.4f}" in told
    assert made.sentence in told
    assert made.sentence in " ".join(text.split())


def test_the_page_is_one_file_that_loads_nothing(board):
    made = board()
    evil = replace(made.members[0], member="<script>alert(1)</script>")
    page = to_page(replace(made, members=(evil, *made.members[1:])), "today")
    assert page.count("<svg") == 1
    assert "default-src 'none'" in page
    assert "<script" not in page
    assert not re.findall(r"(?:src|href)=\"(?!#)", page)


def test_long_names_stand_on_lines_of_their_own(board):
    made = board()
    long = [replace(row, member=row.member + "-" * 60) for row in made.members]
    lines = to_text(replace(made, members=tuple(long))).splitlines()
    assert max(map(len, lines)) <= 100
    for row in long:
        assert row.member in lines
        assert f"{row.score.value:.4f}" in lines[lines.index(row.member) + 1]


def test_undefined_scores_are_left_empty_and_stand_last(board):
    made = board()
    unknown = replace(made.members[0], score=Value(None, None, None))
    text = to_text(replace(made, members=(*made.members[1:], unknown)))
    assert "None" not in text
    assert "nan" not in text


def test_the_frontier_holds_whoever_nobody_beats_in_score_and_seconds():
    scores, seconds = [0.7, 0.8, 0.75, 0.8, 0.6], [1.0, 3.0, 3.0, 4.0, 0.5]
    assert on_frontier(scores, seconds, "max") == [True, True, False, False, True]
    losses = [-score for score in scores]
    assert on_frontier(losses, seconds, "min") == [True, True, False, False, True]
    assert on_frontier([0.5, 0.5], [1.0, 1.0], "max") == [True, True]


def test_what_members_share_is_computed_once():
    one, other = Cost(1.0, {"layer 5": 4.0}), Cost(2.0, {"layer 5": 4.0, "layer 6": 5.0})
    assert one.alone == 5
    assert seconds_together([one, other]) == 12
    assert seconds_together([]) == 0


def test_frozen_layers_are_timed_once_for_the_folds_that_share_them(toy):
    from poolblend.loading.competition import open_store

    settings = config.load(toy(train={"epochs": 1, "freeze_layers": 1}, members=["mean", "max"]))
    pipeline.train(settings)
    store = open_store(settings)
    keys = set()
    for name in store.members():
        cards = [store.fold(name, fold).card() for fold in range(3)]
        cost = prediction_cost(cards)
        assert cost.own == pytest.approx(sum(c.prediction.seconds / c.rows.valid for c in cards))
        (seconds,) = cost.shared.values()
        assert seconds == cards[0].prediction.states.seconds / 60
        assert 0 < cost.own < cost.alone
        keys |= cost.shared.keys()
    assert len(keys) == 1


def test_a_scikit_learn_head_is_timed_with_its_pooling(toy):
    from poolblend.loading.competition import open_store

    settings = config.load(toy(members=[{"pooler": "mean", "head": "ridge"}], task="regression"))
    pipeline.train(settings)
    (name,) = open_store(settings).members()
    timed = open_store(settings).fold(name, 1).card().prediction
    assert timed.rows == 20
    assert timed.seconds > 0
    assert timed.states.seconds > 0

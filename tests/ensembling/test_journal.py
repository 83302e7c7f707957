"""A trial in a journal is the one that was written, or the journal is named as damaged."""

import json

import pytest

from poolblend.ensembling.blenders import BLENDERS
from poolblend.ensembling.journal import check_journal
from poolblend.ensembling.problem import StudyFile
from poolblend.errors import UserError


@pytest.fixture
def file(searchable, tmp_path):
    file = StudyFile(tmp_path / "all-rows.log", "all rows")
    BLENDERS["optuna"](searchable(study=file, trials=5))
    return file


def changed(path, change):
    lines = path.read_text(encoding="utf-8").splitlines()
    number = next(n for n, line in enumerate(lines) if '"search"' in line)
    record = json.loads(lines[number])
    change(record)
    lines[number] = json.dumps(record)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


CHANGES = {
    "value": lambda record: record.update(value=record["value"] + 1e-9),
    "weight": lambda record: record["params"].update({"member 0": 0.123}),
    "source": lambda record: record["user_attrs"].update(source="equal"),
    "seal": lambda record: record["user_attrs"].pop("seal"),
}


def test_a_journal_is_whole_as_it_was_written_and_with_a_torn_tail(file):
    check_journal(file.path, "all-rows")
    with file.path.open("ab") as journal:
        journal.write(b'{"op_code": 4, "wor')
    check_journal(file.path, "all-rows")
    check_journal(file.path.with_name("none.log"))


@pytest.mark.parametrize("what", CHANGES)
def test_a_changed_trial_is_found_and_the_search_refuses(file, searchable, what):
    changed(file.path, CHANGES[what])
    with pytest.raises(UserError, match=r"all-rows.log cannot be used \(line \d+ is damaged\)"):
        check_journal(file.path)
    with pytest.raises(UserError, match="delete it, and the search begins anew"):
        BLENDERS["optuna"](searchable(study=file, trials=5))


def test_a_journal_of_another_search_is_found(file):
    with pytest.raises(UserError, match="cannot be used"):
        check_journal(file.path, "without-fold-0")


def test_trials_that_others_added_count_as_none(file):
    changed(file.path, lambda record: record.update(user_attrs={"note": "mine"}))
    check_journal(file.path)

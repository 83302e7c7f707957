"""`train.py --check` names vectors and pseudo-labels, and what mends them."""

import pytest

from poolblend import pipeline
from poolblend.errors import UserError

MEMBER = "tiny-mean-s42"


@pytest.fixture
def whole(finished):
    """A run with vectors and pseudo-labels; its one outside member is not in its blend."""
    pipeline.blend(finished.settings)
    pipeline.infer(finished.settings)
    pipeline.write_vectors(finished.settings)
    pipeline.write_pseudo_labels(finished.settings, "fold1")
    return finished


def test_a_whole_run_is_no_error(whole, capsys):
    capsys.readouterr()
    whole.check()
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert f"{MEMBER} whole fold 0, 1" in lines
    assert "whole vectors of fold 0, 1" in lines
    assert "whole test vectors of fold 0, 1" in lines
    assert "pseudo-labels fold1 whole" in lines


def test_damaged_vectors_are_made_again_as_is_told(whole, capsys):
    whole.store.vectors(MEMBER, 1, "test").path.write_bytes(b"")
    with pytest.raises(UserError, match="^1 damaged of .*to mend it: python infer.py --vectors "):
        whole.check()
    assert f"damaged: {MEMBER} test vectors of fold 1:" in capsys.readouterr().out
    pipeline.write_vectors(whole.settings)
    whole.check()


def test_damaged_pseudo_labels_are_told_what_to_do(whole, capsys):
    whole.store.pseudo("fold1").path(1).write_bytes(b"")
    with pytest.raises(UserError, match="1 damaged of .*; mend the pseudo-labels first, as is sa"):
        whole.check()
    out = " ".join(capsys.readouterr().out.split())
    assert "and run infer.py --pseudo-labels fold1 again" in out

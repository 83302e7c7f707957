"""The fuzz driver finds planted crashes, and none in the readers of configs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
pytest.importorskip("resource", reason="the driver limits memory as POSIX does")
DRIVER = Path(__file__).with_name("fuzz_readers.py")
PLANTED = """
import os

NAMES = ("right", "raises", "waits", "dies", "grows", "tells")
SEEDS = {name: [b"a1,b2", b"hello"] for name in NAMES}


def right(content, folder):
    from poolblend.errors import UserError

    (folder / "input").write_bytes(content)
    if content != b"hello":
        raise UserError("no")


def raises(content, folder):
    if b"ll" in content:
        raise IndexError("planted")


def waits(content, folder):
    while content == b"hello":
        pass


def dies(content, folder):
    if content == b"hello":
        os.abort()


def grows(content, folder):
    if content == b"hello":
        bytearray(1 << 36)


def tells(content, folder):
    from poolblend.errors import UserError

    if content == b"hello":
        raise UserError("two" + chr(10) + "lines")


READERS = {name: globals()[name] for name in NAMES}
"""


@pytest.fixture
def fuzz(tmp_path):
    """Function of arguments: the driver's exit status and what it printed."""
    (tmp_path / "planted.py").write_text(PLANTED, encoding="utf-8")

    def fuzz(*arguments):
        command = [sys.executable, DRIVER, "--crashes", tmp_path / "crashes", *arguments]
        path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
        done = subprocess.run(
            command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": path}
        )
        assert done.returncode in (0, 1), done.stderr
        return done.returncode, done.stdout

    return fuzz


def tallies(printed):
    """The tally of each reader."""
    lines = [line.partition(": ") for line in printed.splitlines() if line.endswith("}")]
    return {name: json.loads(tally) for name, _, tally in lines}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("raises", "IndexError: planted"),
        ("waits", "Hang: the time for one input is over"),
        ("dies", "the process ended with status -6"),
        ("grows", "MemoryError"),
        ("tells", "two\nlines"),
    ],
)
def test_a_planted_crash_is_caught_and_its_input_kept(fuzz, tmp_path, name, message):
    few = ["--only", name, "--inputs", "2", "--seconds", "0.5"]
    status, printed = fuzz("--corpus", "planted", *few)
    assert (status, tallies(printed)[name]["crashes"]) == (1, 1)
    crashes = tmp_path / "crashes"
    assert str(crashes) in printed
    assert sorted(path.suffix for path in crashes.iterdir()) == [".input", ".txt"]
    assert next(crashes.glob("*.input")).read_bytes() == b"hello"
    assert message in next(crashes.glob("*.txt")).read_text(encoding="utf-8")


def test_a_reader_that_reads_or_refuses_passes(fuzz, tmp_path):
    status, printed = fuzz("--corpus", "planted", "--only", "right", "--inputs", "50")
    tally = tallies(printed)["right"]
    assert (status, tally["inputs"], tally["crashes"]) == (0, 50, 0)
    assert tally["refused"] + tally["accepted"] == 50
    assert tally["accepted"] >= 1
    assert not list((tmp_path / "crashes").iterdir())


def test_configs_are_read_or_refused_and_a_seed_gives_the_same_inputs(fuzz):
    counts = []
    for seed in ("0", "0", "1"):
        command = ["--corpus", "corpus.configs", "--inputs", "200", "--seed", seed]
        status, printed = fuzz(*command)
        assert status == 0, printed
        tally = tallies(printed)["config file"]
        counts.append((tally["inputs"], tally["refused"], tally["accepted"]))
    first, again, other = counts
    assert first == again
    assert first != other

"""The fuzz driver finds what it is for; and a short run of it over the configs finds nothing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

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


def rows(printed):
    """The table printed, its numbers by reader."""
    lines = [line.strip("| ").split("|") for line in printed.splitlines() if line[:1] == "|"]
    return {name.strip(): [float(n.replace(",", "")) for n in row] for name, *row in lines[2:]}


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("raises", "IndexError: planted"),
        ("waits", "Hang: the time for one input is over"),
        ("dies", "the process ended with status -6"),
        ("grows", "MemoryError"),
        ("tells", "two\nlines"),
    ],
)
def test_a_planted_crash_is_caught_and_its_input_kept(fuzz, tmp_path, name, told):
    few = ["--only", name, "--inputs", "3", "--seconds", "0.5"]
    status, printed = fuzz("--corpus", "planted", *few)
    assert (status, rows(printed)[name][3]) == (1, 1)
    crashes = tmp_path / "crashes"
    assert str(crashes) in printed
    assert sorted(path.suffix for path in crashes.iterdir()) == [".input", ".txt"]
    kept = next(crashes.glob("*.input")).read_bytes()
    assert kept == (b"ll" if name == "raises" else b"hello")
    assert told in next(crashes.glob("*.txt")).read_text(encoding="utf-8")


def test_a_reader_that_reads_or_refuses_passes(fuzz, tmp_path):
    status, printed = fuzz("--corpus", "planted", "--only", "right", "--inputs", "50")
    inputs, refused, accepted, crashes, _ = rows(printed)["right"]
    assert (status, inputs, crashes) == (0, 50, 0)
    assert refused + accepted == 50
    assert accepted >= 1
    assert not list((tmp_path / "crashes").iterdir())


def test_the_same_seed_feeds_the_same_inputs(fuzz):
    counts = [
        rows(fuzz("--corpus", "corpus.configs", "--only", "YAML", "--inputs", "300", *seed)[1])
        for seed in ([], [], ["--seed", "1"])
    ]
    first, again, other = (count["config YAML"][:4] for count in counts)
    assert first == again
    assert first != other


def test_configs_are_read_or_refused(fuzz):
    status, printed = fuzz("--corpus", "corpus.configs", "--inputs", "200")
    assert (status, rows(printed)["all"][0]) == (0, 600), printed

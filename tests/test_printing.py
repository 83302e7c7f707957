"""Where progress bars are shown: on terminals and in notebooks, unless they are not wanted."""

import os
import pty
import subprocess
import sys
import termios
from pathlib import Path
from types import SimpleNamespace

import pytest

from poolblend.printing import hide_bars

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("shell", "hidden"), [(SimpleNamespace(kernel="a notebook's"), False), (object(), None)]
)
def test_a_notebook_shows_bars_though_its_streams_are_no_terminals(monkeypatch, shell, hidden):
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    monkeypatch.delenv("TQDM_DISABLE")
    assert hide_bars() is hidden
    monkeypatch.setenv("TQDM_DISABLE", "1")
    assert hide_bars() is True


def on_a_terminal(*command):
    """What the command writes to a terminal."""
    here, there = pty.openpty()
    termios.tcsetwinsize(there, (24, 80))  # without a width, tqdm shows nothing
    environment = {name: value for name, value in os.environ.items() if name != "TQDM_DISABLE"}
    child = subprocess.Popen(
        list(map(str, command)), stdout=there, stderr=there, close_fds=True, env=environment
    )
    os.close(there)
    pieces = []
    while True:
        try:
            pieces.append(os.read(here, 4096))
        except OSError:  # so a terminal's end is told on Linux
            break
        if not pieces[-1]:
            break
    os.close(here)
    assert child.wait() == 0, b"".join(pieces)
    return b"".join(pieces).decode()


def test_quiet_hides_the_bars_of_a_terminal(toy):
    command = sys.executable, ROOT / "train.py", "--config", toy(n=20), "--pooler", "mean"
    assert " step/s" in on_a_terminal(*command, "--fold", 0)
    assert on_a_terminal(*command, "--fold", 1, "--quiet") == ""

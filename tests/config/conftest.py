import re

import pytest

from poolblend import config
from poolblend.errors import UserError

LONGEST_LINE = 1000


@pytest.fixture
def write(tmp_path):
    """Function of a config's text or bytes: the path of a file that holds it."""

    def write(text, name="mine.yaml"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


@pytest.fixture
def refused():
    """Function of a pattern and what `config.load` takes: it refuses that, in one short line."""

    def refused(pattern, path=None, sets=()):
        with pytest.raises(UserError) as caught:
            config.load(path, sets)
        line = str(caught.value)
        assert re.search(pattern, line), line
        assert line.isprintable()
        assert len(line) <= LONGEST_LINE

    return refused


@pytest.fixture
def value():
    """Function of settings and a dotted key: the key's value."""

    def value(settings, key):
        for part in key.split("."):
            settings = settings[int(part)] if part.isdigit() else getattr(settings, part)
        return settings

    return value

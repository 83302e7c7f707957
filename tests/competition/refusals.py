"""What these tests look for in a refusal: a UserError that says just this."""

import re

import pytest

from poolblend.errors import UserError


def refused(message: str):
    return pytest.raises(UserError, match=re.escape(message))

"""Inputs for the fuzz driver: valid contents, damaged in many ways."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Sequence
from typing import Any

NUMBERS = """
0 -0 -1 1 0001 010 1e5 1e-5 1e400 -1e400 0.1 .5 1. 1,5 1_000 0x10 1:30 inf -inf nan NaN .inf
2147483648 4294967296 -9223372036854775809 18446744073709551616
"""
SIGNS = ", ; : - ? | > & * ! % @ ` # { } [ ] ( ) = < << / \\ // ../ ' '' \" \"\" --- ..."
NAMES = "true false null None yes no on off ~ id text target fold pred 2020-01-01 [CLS] </s>"
WORDS = [
    *(NUMBERS + SIGNS + " " + NAMES).split(),
    *["9" * 400, "1" + "0" * 5000],
    *["\n", "\r\n", "\r", "\t", " ", "  ", "\0", "\ufeff", "\x1b[31m", "\x85", "\u2028", "\u202e"],
    *["é", "评论", "🔥", "ﷺ", "a\u0301" * 50, "x" * 3000, "\n" * 50, "[" * 100, '{"a":' * 100],
    *["&a ", "*a", "<<: *a", "!!python/object/apply:os.system ", "!!binary ", "%YAML 1.1\n"],
    *['"\\u0000"', '"\\ud800"', '"\\UFFFFFFFF"', "model", "sha256", "members", "train", "seed"],
]


def make_input(rng: random.Random, seeds: Sequence[bytes]) -> bytes:
    """Mostly a damaged seed, sometimes words that are hard to read, sometimes random bytes."""
    luck = rng.random()
    if luck < 0.05:
        return rng.randbytes(rng.randrange(200))
    if luck < 0.2:
        return "".join(rng.choices(WORDS, k=rng.randrange(1, 30))).encode()
    content = rng.choice(seeds)
    if luck < 0.5:
        content = _change_json(rng, content)
    for _ in range(rng.choice([0, 1, 1, 1, 2, 3, 8]) if luck < 0.5 else rng.choice([1, 1, 2, 4])):
        content = rng.choice(MUTATIONS)(rng, content, seeds)
    return content


def _cut(rng: random.Random, content: bytes) -> tuple[int, int]:
    """Two places in order, often near each other."""
    start = rng.randrange(len(content) + 1)
    longest = rng.choice([1, 8, 64, len(content)])
    return start, min(len(content), start + rng.randrange(longest + 1))


def _flip(rng: random.Random, content: bytes, seeds: Sequence[bytes]) -> bytes:
    if not content:
        return b"\xff"
    damaged = bytearray(content)
    for _ in range(rng.choice([1, 1, 4, 32])):
        damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
    return bytes(damaged)


def _overwrite(rng: random.Random, content: bytes, seeds: Sequence[bytes]) -> bytes:
    start, end = _cut(rng, content)
    return content[:start] + rng.choice([b"\0", b"\xff", b" "]) * (end - start) + content[end:]


def _truncate(rng: random.Random, content: bytes, seeds: Sequence[bytes]) -> bytes:
    return content[: rng.randrange(len(content) + 1)]


def _delete(rng: random.Random, content: bytes, seeds: Sequence[bytes]) -> bytes:
    start, end = _cut(rng, content)
    return content[:start] + content[end:]


def _double(rng: random.Random, content: bytes, seeds: Sequence[bytes]) -> bytes:
    start, end = _cut(rng, content)
    return content[:end] + content[start:end] * rng.choice([1, 1, 1, 20]) + content[end:]


def _splice(rng: random.Random, content: bytes, seeds: Sequence[bytes]) -> bytes:
    other = rng.choice(seeds)
    start, end = _cut(rng, other)
    place = rng.randrange(len(content) + 1)
    return content[:place] + other[start:end] + content[rng.choice([place, len(content)]) :]


def _insert(rng: random.Random, content: bytes, seeds: Sequence[bytes]) -> bytes:
    place = rng.randrange(len(content) + 1)
    return content[:place] + rng.choice(WORDS).encode() + content[place:]


def _replace_word(rng: random.Random, content: bytes, seeds: Sequence[bytes]) -> bytes:
    found = list(re.finditer(rb"[0-9.eE+-]+|\w+", content[:20_000]))
    if not found:
        return content
    start, end = rng.choice(found).span()
    return content[:start] + rng.choice(WORDS).encode() + content[end:]


def _recode(rng: random.Random, content: bytes, seeds: Sequence[bytes]) -> bytes:
    encoding = rng.choice(["utf-16", "utf-16-le", "utf-32", "utf-8-sig", "utf-7", "cp037"])
    return content.decode("latin-1").encode(encoding, "replace")


def _reorder_lines(rng: random.Random, content: bytes, seeds: Sequence[bytes]) -> bytes:
    lines = content.split(b"\n")
    first, second = rng.randrange(len(lines)), rng.randrange(len(lines))
    lines[first], lines[second] = lines[second], lines[first]
    return rng.choice([b"\n", b"\n", b"\r\n", b"\r"]).join(lines)


MUTATIONS: list[Callable[[random.Random, bytes, Sequence[bytes]], bytes]] = [
    _flip,
    _overwrite,
    _truncate,
    _delete,
    _double,
    _splice,
    _insert,
    _replace_word,
    _recode,
    _reorder_lines,
]


def _change_json(rng: random.Random, content: bytes) -> bytes:
    """Other values in the same shape, where the content is JSON: damage that still parses."""
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return content
    for _ in range(rng.choice([1, 1, 2, 3])):
        value = _change(rng, value)
    return json.dumps(value).encode()


def _change(rng: random.Random, value: Any) -> Any:
    if not isinstance(value, dict | list) or not value or rng.random() < 0.1:
        return _json_value(rng, value)
    keys: list[Any] = list(value) if isinstance(value, dict) else list(range(len(value)))
    key = rng.choice(keys)
    changed: Any = dict(value) if isinstance(value, dict) else list(value)
    luck = rng.random()
    if luck < 0.1:
        del changed[key]
    elif luck < 0.2 and isinstance(changed, dict):
        changed[rng.choice([*WORDS, *keys])] = changed[key]
    elif luck < 0.2:
        changed += changed * rng.choice([1, 1, 50])
    else:
        changed[key] = _change(rng, changed[key])
    return changed


def _json_value(rng: random.Random, value: Any) -> Any:
    plain = [None, True, False, 0, -1, 1, 2, 2**31, 2**63, 2**64, 10**30, -(2**63) - 1, 0.5, -0.0]
    more = [1e308, float("nan"), float("inf"), "", [], {}, [[]], [value], {"a": value}, str(value)]
    return rng.choice([*plain, *more, rng.choice(WORDS)])

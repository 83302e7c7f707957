"""Backbone folders whose JSON files would make transformers run or fetch what they name: refused.

transformers runs code that such files name in more ways than its `trust_remote_code` covers:
versions 4.56 to 5.2 fetch and run attention kernels (CVE-2026-4372), and a configuration may itself
switch that flag on for another model (CVE-2026-5241). So they are read before it sees them.
"""

from __future__ import annotations

import functools
import json
import logging
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from poolblend.errors import UserError

log = logging.getLogger(__name__)

CONFIG, TOKENIZER_CONFIG = "config.json", "tokenizer_config.json"
# What transformers takes settings from. Other files (a trainer's log, tables of words) need not be
# in order, as long as they name no code.
SETTINGS = (CONFIG, TOKENIZER_CONFIG, "special_tokens_map.json", "added_tokens.json")
SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
# How often a configuration may ask for a part to be made: the deepest models have a few hundred
# layers, and a damaged number would keep the machine busy for hours.
MOST_PARTS = 2000
MOST_POSITIONS = 2**24  # each takes memory before it is held against the weights


class Rule(NamedTuple):
    """An entry that is refused: under which keys of which files, when, and what to say of it."""

    files: tuple[str, ...]
    key: re.Pattern[str]
    refused: Callable[[Path, Any], bool]  # of the folder and the value
    advice: str


def _leads_out(folder: Path, value: Any) -> bool:
    """Whether a file's path can be read here, and is not of the folder.

    Many published tokenizers carry paths of the machine that saved them: they lead nowhere.
    """
    if not isinstance(value, str) or "\0" in value or Path(value).name == value:
        return False
    return any(path.exists() for path in (Path(value), folder / value))


def _has_all_parts(folder: Path, weight_map: Any) -> bool:
    """Whether an index of weights, where it is needed, names files that are there."""
    if (folder / SINGLE).is_file():
        return True
    names = weight_map.values() if isinstance(weight_map, dict) else [weight_map]
    return all(
        re.fullmatch(r"[^/\\\0]+\.safetensors", str(name)) and (folder / str(name)).is_file()
        for name in names
    )


def _names_a_tokenizer(value: Any) -> bool:
    return value is None or bool(re.fullmatch(r"\w+(Tokenizer(Fast)?|Backend)", str(value)))


RULES = (
    Rule(
        (INDEX,),
        re.compile("weight_map"),
        lambda folder, value: not _has_all_parts(folder, value),
        "expected *.safetensors files beside it; fetch those that are missing",
    ),
    Rule(
        (CONFIG, TOKENIZER_CONFIG),
        re.compile("tokenizer_class"),
        lambda _, value: not _names_a_tokenizer(value),
        "expected the name of a tokenizer's class",
    ),
    Rule(
        (CONFIG, TOKENIZER_CONFIG),
        re.compile("configuration_files|fast_tokenizer_files"),
        lambda _, value: bool(re.search(r"[/\\]", str(value))),
        "expected names of files in that folder",
    ),
    Rule(
        (TOKENIZER_CONFIG,),
        re.compile("init_inputs"),
        lambda _, value: bool(value),
        "the tokenizer would open what they name; delete that key",
    ),
    Rule(
        (TOKENIZER_CONFIG,),
        re.compile("(?!special_tokens_map|added_tokens|tokenizer_config).*_file"),  # not followed
        _leads_out,
        "it leads out of the folder; delete that key",
    ),
    Rule(
        (CONFIG,),
        re.compile("transformers_weights"),
        lambda _, value: value not in (None, SINGLE, INDEX),
        f"expected {SINGLE}; rename the file to that and delete the key",
    ),
    Rule(
        (CONFIG,),
        re.compile("quantization_config"),
        lambda _, value: bool(value),
        "quantised weights cannot be fine-tuned; take the model in full precision",
    ),
    Rule(
        (CONFIG,),
        re.compile(r"(.*_)?(layers?|blocks|groups|group_num|labels|experts)"),
        lambda _, value: type(value) is int and value > MOST_PARTS,
        f"expected at most {MOST_PARTS}",
    ),
    Rule(
        (CONFIG,),
        re.compile(r".*positions?(_embeddings)?|n_ctx|max_seq.*_len(gth)?"),
        lambda _, value: type(value) is int and value > MOST_POSITIONS,
        f"expected at most {MOST_POSITIONS}",
    ),
)


def inspect(folder: Path, remote_code: bool = False) -> None:
    """Refuse a folder whose JSON files would run or fetch code, or cannot be read.

    With `remote_code` the code is allowed, and a line in the log names the folder. Raises UserError
    with the file, the key and what allows or mends it.
    """
    if (folder / "adapter_config.json").exists():
        raise UserError(
            f"{folder} holds an adapter (adapter_config.json), whose base model would be fetched "
            "by name; merge it into its model once (peft: model.merge_and_unload()"
            ".save_pretrained(folder)) and set backbone to that folder"
        )
    runs = False
    for file in sorted(folder.glob("*.json")):
        if not file.is_file():
            raise UserError(f"{file} is not a file")
        rules = [rule for rule in RULES if file.name in rule.files]
        for key, value in _entries(_read(file)):
            for rule in rules:
                if rule.key.fullmatch(key) and rule.refused(folder, value):
                    raise UserError(f"{file}: {key} is {_short(value)}; {rule.advice}")
            code = _code(key, value)
            if code and not remote_code:
                raise UserError(
                    f"{file} names code in `{key}` ({code}), which would run on this machine; set "
                    "remote_code: true in the config if you have read that code and trust it"
                )
            runs |= bool(code)
    if runs:
        _warn(folder)


@functools.cache
def _warn(folder: Path) -> None:
    log.warning("remote_code is on: code that comes with or is named by %s is run", folder)


def _read(file: Path) -> Any:
    """A JSON file's content; None for one that is no JSON, where transformers reads no settings.

    Raises UserError for a settings file that is damaged: not UTF-8, not JSON, nested too deep, a
    key given twice, NaN, or no mapping.
    """
    strict = file.name in (*SETTINGS, INDEX)
    hooks: dict[str, Any] = {"object_pairs_hook": _each_once, "parse_constant": _no_nan}
    try:
        content = json.loads(file.read_text(encoding="utf-8"), **(hooks if strict else {}))
        if strict and not isinstance(content, dict):
            raise ValueError(f"expected a mapping, found {type(content).__name__}")
    except (OSError, ValueError, RecursionError) as error:
        if not strict:
            return None
        raise UserError(
            f"{file} is damaged ({error or 'nested too deep'}); restore it from where it came from"
        ) from None
    return content


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        [(key, _)] = Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(f"key '{key}' is given twice")
    return content


def _no_nan(name: str) -> float:
    if name == "NaN":
        raise ValueError("NaN is no JSON")
    return float(name.replace("Infinity", "inf"))  # of time-step limits, for one


def _entries(content: Any) -> Iterator[tuple[str, Any]]:
    """Every key with its value, at any depth; no recursion, which a deep file would exhaust."""
    waiting = [content]
    while waiting:
        content = waiting.pop()
        if isinstance(content, dict):
            yield from content.items()
            waiting += content.values()
        elif isinstance(content, list):
            waiting += content


def _code(key: str, value: Any) -> str | None:
    """The code that this entry would run, in words; None where it would run none.

    Tables of words map any string to a number or a score: numbers name nothing.
    """
    if not value or (isinstance(value, int | float) and value is not True):
        return None
    if key == "auto_map":
        return f"it maps to {_short(value)}"
    if key == "trust_remote_code":
        return "it allows another model's code"
    if "implementation" in key and "/" in json.dumps(value):
        return f"the kernel {_short(value)} of a hub"
    return None


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:80]}…"

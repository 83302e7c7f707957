"""Refuse backbone folders whose files would make transformers run or fetch code.

transformers runs code that such files name in more ways than its `trust_remote_code` covers:
versions 4.56 to 5.2 fetch and run attention kernels (CVE-2026-4372), and a configuration may itself
switch that flag on for another model (CVE-2026-5241). So all JSON files are checked before
transformers reads them.
"""

from __future__ import annotations

import functools
import json
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import transformers

from poolblend.errors import UserError

log = logging.getLogger(__name__)

CONFIG, TOKENIZER_CONFIG = "config.json", "tokenizer_config.json"
SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
# Files from which transformers reads settings. Other JSON files may be damaged.
SETTINGS = (CONFIG, TOKENIZER_CONFIG, INDEX, "special_tokens_map.json", "added_tokens.json")
# Larger than any number in a real configuration; building so many layers would take hours.
TOO_LARGE = 10**9
# transformers reads these files from the folder, whatever the entries say.
OWN_FILES = ("special_tokens_map_file", "added_tokens_file", "tokenizer_config_file")


@contextmanager
def readable(folder: Path, remote_code: bool) -> Iterator[None]:
    """Let transformers read a folder that passes `inspect`; its errors become one line.

    The hub is offline here, as `local_files_only` does not reach every call in transformers. Its
    progress bars and reports are silenced.
    """
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity(transformers.utils.logging.CRITICAL)
    constants = huggingface_hub.constants
    before = constants.HF_HUB_OFFLINE
    try:
        inspect(folder, remote_code)
        constants.HF_HUB_OFFLINE = True
        yield
    except UserError:
        raise
    except BaseException as error:
        # A damaged file makes many libraries fail, each with its own errors. The tokenizers library
        # panics in Rust, which is not an Exception.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise UserError(f"{folder} cannot be read as a transformers model: {reason}") from error
    finally:
        constants.HF_HUB_OFFLINE = before


def inspect(folder: Path, remote_code: bool = False) -> None:
    """Refuse a folder whose JSON files would run or fetch code.

    With `remote_code` the code is allowed, and a line in the log names the folder. Raises UserError
    with the file, the key and what to do. A folder whose files are unchanged since this process
    last let it pass is not read again.
    """
    passed = (files_as_of_now(folder), remote_code)
    if passed in _passed:
        return
    _inspect(folder, remote_code)
    _passed.add(passed)


_passed: set[tuple[Any, bool]] = set()


def files_as_of_now(folder: Path) -> tuple[tuple[str, int, int, int], ...]:
    """Path, inode, size and time of change of each file in a folder; equal while none changes."""
    found = ((str(file), file.stat()) for file in sorted(folder.iterdir()) if file.is_file())
    return tuple((name, at.st_ino, at.st_size, at.st_mtime_ns) for name, at in found)


def _inspect(folder: Path, remote_code: bool) -> None:
    if (folder / "adapter_config.json").exists():
        raise UserError(
            f"{folder} holds an adapter (adapter_config.json), whose base model would be fetched "
            "by name; merge it into its model once (peft: model.merge_and_unload()"
            ".save_pretrained(folder)) and set backbone to that folder"
        )
    runs_code = False
    for file in sorted(folder.glob("*.json")):
        for key, value in _entries(_read(file)):
            advice = _advice(file, key, value)
            if advice:
                raise UserError(f"{file}: {key} is {_short(value)}; {advice}")
            code = _code(key, value)
            if code and not remote_code:
                raise UserError(
                    f"{file} names code in `{key}` ({code}), which would run on this machine; set "
                    "remote_code: true in the config if you have read that code and trust it"
                )
            runs_code |= bool(code)
    if runs_code:
        _warn(folder)


@functools.cache
def _warn(folder: Path) -> None:
    log.warning("remote_code is on: code that comes with or is named by %s is run", folder)


def _read(file: Path) -> Any:
    """The content of a JSON file; None where a file that holds no settings is damaged."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if file.name in SETTINGS and not isinstance(content, dict):
            raise ValueError(f"expected a mapping, found {type(content).__name__}")
    except (OSError, ValueError, RecursionError) as error:
        if file.name not in SETTINGS:
            return None
        raise UserError(
            f"{file} is damaged ({error}); restore it from where it came from"
        ) from None
    return content


def _entries(content: Any) -> Iterator[tuple[str, Any]]:
    """Every key with its value, at any depth; a deep file would exhaust a recursion."""
    waiting = [content]
    while waiting:
        content = waiting.pop()
        if isinstance(content, dict):
            yield from content.items()
            waiting += content.values()
        elif isinstance(content, list):
            waiting += content


def _advice(file: Path, key: str, value: Any) -> str:
    """What to do about an entry that would make transformers read other files; "" for any other."""
    text, folder, advice = str(value), file.parent, ""
    if file.name == INDEX and key == "weight_map" and not _has_all_parts(folder, value):
        advice = "expected *.safetensors files beside it; fetch those that are missing"
    elif file.name not in (CONFIG, TOKENIZER_CONFIG) or not value:
        advice = ""
    elif key == "tokenizer_class" and not re.fullmatch(r"\w+(Tokenizer(Fast)?|Backend)", text):
        advice = "expected the name of a tokenizer's class"
    elif key in ("configuration_files", "fast_tokenizer_files") and re.search(r"[/\\]", text):
        advice = "expected names of files in that folder"
    elif key == "init_inputs":
        advice = "the tokenizer would open the files named there; delete that key"
    elif key.endswith("_file") and key not in OWN_FILES and _leads_out(folder, value):
        advice = "it leads out of the folder; delete that key"
    elif key == "transformers_weights" and value not in (SINGLE, INDEX):
        advice = f"expected {SINGLE}; rename the file to that and delete the key"
    elif file.name == CONFIG and type(value) is int and value >= TOO_LARGE:
        advice = f"expected a number below {TOO_LARGE:,}"
    elif key == "quantization_config":
        advice = "quantised weights cannot be fine-tuned; use the model in full precision"
    return advice


def _has_all_parts(folder: Path, weight_map: Any) -> bool:
    """Whether an index of weights names files of the folder, or the weights need no index."""
    if (folder / SINGLE).is_file():
        return True
    names = weight_map.values() if isinstance(weight_map, dict) else [weight_map]
    return all(
        re.fullmatch(r"[^/\\\0]+\.safetensors", str(name)) and (folder / str(name)).is_file()
        for name in names
    )


def _leads_out(folder: Path, value: Any) -> bool:
    """Whether the path of a file exists here outside the folder.

    Many published tokenizers name paths of the machine that saved them, which do not exist here.
    """
    if not isinstance(value, str) or "\0" in value or Path(value).name == value:
        return False
    return any(path.exists() for path in (Path(value), folder / value))


def _code(key: str, value: Any) -> str:
    """The code that this entry would run, in words; "" where it would run none.

    Tables of words map any string to a number, and a number names no code.
    """
    if not value or (isinstance(value, int | float) and value is not True):
        return ""
    if key == "auto_map":
        return f"it maps to {_short(value)}"
    if key == "trust_remote_code":
        return "it allows another model's code"
    if "implementation" in key and "/" in json.dumps(value):
        return f"the kernel {_short(value)} of a hub"
    return ""


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:80]}…"

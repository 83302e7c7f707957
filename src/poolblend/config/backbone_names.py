"""A backbone's name, from its source alone: its last part, or what tells more than a version."""

from __future__ import annotations

import re
from collections.abc import Sequence

# A folder named by a version or (in the hub's cache) by a commit.
VERSION = re.compile(r"(v|version)?[-_]?\d+([._]\d+)*|[0-9a-f]{40}|snapshots", re.IGNORECASE)
# Kaggle's models lie in model/framework/variation/version.
FRAMEWORK = re.compile(
    r"transformers|pytorch|torch|tensorflow\d?|tf\d|tflite|jax|flax|keras|onnx|safetensors|other",
    re.IGNORECASE,
)
# What a variation may be called without saying of which model it is one: base, 2b-it, v2-xlarge.
FLAVOUR = re.compile(
    r"default|nano|micro|tiny|mini|x*-?small|base|medium|x*-?large|huge|giant|x+l|\d+(\.\d+)?[bm]|"
    r"(un)?cased|multilingual|en|it|chat|instruct|hf|v?\d+(\.\d+)*",
    re.IGNORECASE,
)


def name_of(source: str) -> str:
    """The name of the backbone at `source`: safe in a file name, or empty where none can be made.

    It is the source's last part. Where that is a version, a framework or a framework's variation,
    it is the nearest folder above that is neither, with the variation: `deberta-v3-base` of
    `deberta-v3/transformers/base/1`.
    """
    parts = re.split(r"[/\\:]", source.rstrip("/\\"))
    return _safe(_telling(parts)) or _safe(parts[-1])


def _telling(parts: Sequence[str]) -> str:
    kept = list(parts)
    while kept and VERSION.fullmatch(kept[-1]):
        kept.pop()
    variation = ""
    if len(kept) > 2 and FRAMEWORK.fullmatch(kept[-2]) and _is_flavour(kept[-1]):
        variation = kept.pop()
    while kept and FRAMEWORK.fullmatch(kept[-1]):
        kept.pop()
    if not kept or not _safe(kept[-1]):
        return ""
    name = kept[-1].rpartition("--")[2] if kept[-1].startswith("models--") else kept[-1]
    return name if variation in ("", "default") else f"{name}-{variation}"


def _is_flavour(part: str) -> bool:
    return all(FLAVOUR.fullmatch(word) for word in re.split(r"[-_]", part))


def _safe(part: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", part).strip("-._")

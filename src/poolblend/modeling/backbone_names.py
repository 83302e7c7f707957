"""The name of a backbone, made of its source: the last part that is not a version."""

from __future__ import annotations

import re
from collections.abc import Sequence

# A folder named after a version or (in the hub's cache) a commit.
VERSION = re.compile(r"(v|version)?[-_]?\d+([._]\d+)*|[0-9a-f]{40}|snapshots", re.IGNORECASE)
# Kaggle stores a model in model/framework/variation/version.
FRAMEWORK = re.compile(
    r"transformers|pytorch|torch|tensorflow\d?|tf\d|tflite|jax|flax|keras|onnx|safetensors|other",
    re.IGNORECASE,
)
# A variation's name that does not say which model it belongs to: base, 2b-it, v2-xlarge.
VARIATION = re.compile(
    r"default|nano|micro|tiny|mini|x*-?small|base|medium|x*-?large|huge|giant|x+l|\d+(\.\d+)?[bm]|"
    r"(un)?cased|multilingual|en|it|chat|instruct|hf|v?\d+(\.\d+)*",
    re.IGNORECASE,
)


def name_of(source: str) -> str:
    """A name for the backbone at `source` that is safe in a file name; empty where there is none.

    It is the last part of the source. A version, a framework and a framework's variation are
    passed over, and the variation is appended: `deberta-v3/transformers/base/1` becomes
    `deberta-v3-base`.
    """
    parts = re.split(r"[/\\:]", source.rstrip("/\\"))
    return _safe(_without_version(parts)) or _safe(parts[-1])


def _without_version(parts: Sequence[str]) -> str:
    kept = list(parts)
    while kept and VERSION.fullmatch(kept[-1]):
        kept.pop()
    variation = ""
    if len(kept) > 2 and FRAMEWORK.fullmatch(kept[-2]) and _is_variation(kept[-1]):
        variation = kept.pop()
    while kept and FRAMEWORK.fullmatch(kept[-1]):
        kept.pop()
    if not kept or not _safe(kept[-1]):
        return ""
    name = kept[-1].rpartition("--")[2] if kept[-1].startswith("models--") else kept[-1]
    return name if variation in ("", "default") else f"{name}-{variation}"


def _is_variation(part: str) -> bool:
    return all(VARIATION.fullmatch(word) for word in re.split(r"[-_]", part))


def _safe(part: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", part).strip("-._")

"""Every reader of a backbone's files as a function of bytes, for whoever feeds them anything.

Each puts the bytes in the place of one file of a tiny encoder in the folder given, reads it, and
returns normally or raises UserError; anything else is a crash. SEEDS holds right contents to begin
from, and a few that reach deep.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from poolblend.modeling import backbone
from poolblend.training.batches import collate
from rig import toys
from rig.encoding import encode

WEIGHTS = "model.safetensors"
LENGTH = 16
INDEX = b'{"metadata": {"total_size": 1}, "weight_map": {"embeddings.x": "a.safetensors"}}'
TEXTS = ["[CLS] lovely [SEP] </s> day", "<pad>\0\n[MASK]", "☃ é 東京 \u202e\U0001f600", "the " * 99]


def _tiny() -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as folder:
        toys.write_encoder(Path(folder))
        return {file.name: file.read_bytes() for file in Path(folder).iterdir()}


FILES = _tiny()


def _with(name: str, content: bytes, folder: Path) -> Path:
    for file, whole in FILES.items():
        (folder / file).write_bytes(whole)
    (folder / name).write_bytes(content)
    return folder


def _check(name: str) -> Callable[[bytes, Path], None]:
    def read(content: bytes, folder: Path) -> None:
        _with(name, content, folder)
        if name.endswith(".index.json"):
            (folder / WEIGHTS).rename(folder / "a.safetensors")
        backbone.check(folder, LENGTH)
        _use(backbone.load(folder))  # what was found in order runs

    return read


def _load(content: bytes, folder: Path) -> None:
    _use(backbone.load(_with(WEIGHTS, content, folder)))


def _use(base: backbone.Backbone) -> None:
    encoded = encode([TEXTS], base.tokenizer, LENGTH)
    batch = collate(encoded, range(len(TEXTS)))
    base.encoder(input_ids=batch.ids_BT, attention_mask=batch.attention_BT.long())


def _tokens(content: bytes, folder: Path) -> None:
    tokenizer = backbone.load_tokenizer(_with("config.json", FILES["config.json"], folder))
    text = content.decode("utf-8", "replace")
    encoded = encode([[text, text], ["", text]], tokenizer, LENGTH)
    special = {*tokenizer.all_special_ids} - {tokenizer.unk_token_id}
    for ids, content_T in zip(encoded.ids, encoded.content, strict=True):
        assert len(ids) <= LENGTH
        assert not special & {*ids[content_T].tolist()}


READERS: dict[str, Callable[[bytes, Path], None]] = {
    "backbone config.json": _check("config.json"),
    "backbone tokenizer.json": _check("tokenizer.json"),
    "backbone tokenizer_config.json": _check("tokenizer_config.json"),
    "backbone model.safetensors": _load,
    "backbone model.safetensors.index.json": _check("model.safetensors.index.json"),
    "special tokens in texts": _tokens,
}
SEEDS: dict[str, list[bytes]] = {
    "backbone config.json": [
        FILES["config.json"],
        b'{"model_type": "bert", "auto_map": {"AutoModel": "a.B"}, "hidden_size": 16}',
        b'{"model_type": "roberta", "text_config": {"attn_implementation": "a/b"}, "n": NaN}',
    ],
    "backbone tokenizer.json": [FILES["tokenizer.json"]],
    "backbone tokenizer_config.json": [FILES["tokenizer_config.json"]],
    "backbone model.safetensors": [FILES[WEIGHTS]],
    "backbone model.safetensors.index.json": [INDEX],
    "special tokens in texts": [text.encode() for text in TEXTS],
}

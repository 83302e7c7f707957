"""Damage to a backbone's folder, with what the line that refuses it says; code that it may name."""

import json
import shutil
import struct
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

CONFIG, TOKENIZER, WORDS = "config.json", "tokenizer_config.json", "tokenizer.json"
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"


def holding(name, content):
    """The file has this content instead."""
    return lambda folder: (folder / name).write_bytes(content)


def cut(name, share):
    def damage(folder):
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(whole[: int(len(whole) * share)])

    return damage


def without(*names):
    return lambda folder: [(folder / name).unlink() for name in names]


def saying(name, **changes):
    """The JSON file has these keys as well."""

    def damage(folder):
        path = folder / name
        path.write_text(
            json.dumps((json.loads(path.read_text()) if path.exists() else {}) | changes)
        )

    return damage


def within(name, *keys, value):
    """The value at these keys of the JSON file is another."""

    def damage(folder):
        content = json.loads((folder / name).read_text())
        inner = content
        for key in keys[:-1]:
            inner = inner[key]
        inner[keys[-1]] = value
        (folder / name).write_text(json.dumps(content))

    return damage


def header(change):
    """The header of the safetensors file, changed."""

    def damage(folder):
        whole = (folder / WEIGHTS).read_bytes()
        size = 8 + struct.unpack("<Q", whole[:8])[0]
        entries = json.loads(whole[8:size])
        change(entries)
        text = json.dumps(entries).encode()
        (folder / WEIGHTS).write_bytes(struct.pack("<Q", len(text)) + text + whole[size:])

    return damage


def tensors(change):
    def damage(folder):
        held = load_file(folder / WEIGHTS)
        save_file(change(held), folder / WEIGHTS, metadata={"format": "pt"})

    return damage


def part(**weight_map):
    """Weights in parts, by an index."""

    def damage(folder):
        shutil.copy(folder / WEIGHTS, folder.parent / "elsewhere.safetensors")
        (folder / WEIGHTS).rename(folder / "part.safetensors")
        (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))

    return damage


def _overlap(entries):
    one, two = [name for name in entries if name != "__metadata__"][:2]
    entries[one]["data_offsets"] = entries[two]["data_offsets"]


def _first(**changes):
    def change(entries):
        entries[next(name for name in entries if name != "__metadata__")] |= changes

    return change


DEEP = b'{"a": ' * 50_000 + b"1" + b"}" * 50_000
HTML = b"<!doctype html><title>Not found</title>"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
WORD = "embeddings.word_embeddings.weight"
FEW_WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "text", "the", "of")
DAMAGED = {
    # Files that are not what they should be.
    **{f"{name} is empty": (holding(name, b""), name) for name in (CONFIG, TOKENIZER)},
    **{f"{name} is cut": (cut(name, 0.6), name) for name in (CONFIG, TOKENIZER)},
    **{f"{name} is a list": (holding(name, b"[1]"), "a mapping") for name in (CONFIG, TOKENIZER)},
    **{f"{name} is deep": (holding(name, DEEP), "is damaged") for name in (CONFIG, TOKENIZER)},
    **{f"{name} is a page": (holding(name, HTML), "is damaged") for name in (CONFIG, TOKENIZER)},
    "config.json is UTF-16": (holding(CONFIG, "{}".encode("utf-16")), "utf-8"),
    "special_tokens_map.json is cut": (holding("special_tokens_map.json", b'{"a"'), "is damaged"),
    "tokenizer.json is empty": (holding(WORDS, b""), "cannot be read"),
    "tokenizer.json is cut": (cut(WORDS, 0.6), "cannot be read"),
    "tokenizer.json is another's": (holding(WORDS, b'{"version": "9"}'), "cannot be read"),
    # A configuration that describes no encoder, or not the one whose weights are there.
    "no model type": (holding(CONFIG, b"{}"), "model_type"),
    "an unknown model type": (saying(CONFIG, model_type="nobodys"), "nobodys"),
    "a model of pictures": (
        saying(CONFIG, model_type="resnet"),
        "lack 318 of the encoder's tensors",
    ),
    "another model's type": (saying(CONFIG, model_type="distilbert"), "lack"),
    "no hidden units": (saying(CONFIG, hidden_size=0), "hidden_size is 0, expected a number"),
    "400 GB of embeddings": (
        saying(CONFIG, hidden_size=10**6, num_attention_heads=10, vocab_size=10**5),
        "they do not belong to one model",
    ),
    "negative heads": (saying(CONFIG, num_attention_heads=-1), "num_attention_heads is -1"),
    "no layers": (saying(CONFIG, num_hidden_layers=0), "num_hidden_layers is 0"),
    "a layer more": (saying(CONFIG, num_hidden_layers=3), "lack 16 of the encoder's tensors"),
    "a layer fewer": (saying(CONFIG, num_hidden_layers=1), "describes 1 layers, the weights hold"),
    "a billion layers": (saying(CONFIG, num_hidden_layers=10**9), "expected a number below"),
    "other positions": (saying(CONFIG, max_position_embeddings=32), "describes .*position_embedd"),
    # A tokenizer that is not the encoder's, or cannot work.
    "a vocabulary too small": (saying(CONFIG, vocab_size=20), "not belong to one model"),
    "words beyond the vocabulary": (
        within(WORDS, "model", "vocab", "lovely", value=99),
        "tokenizer gives ids up to 99, its encoder knows ids below",
    ),
    "no tokenizer": (
        without("tokenizer.json", "tokenizer_config.json"),
        "holds no tokenizer",
    ),
    "a tokenizer of another model": (
        within(WORDS, "model", "vocab", value={"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "[PAD]": 3}),
        "holds no tokenizer|knows",
    ),
    "a tokenizer of few words": (
        within(WORDS, "model", "vocab", value={w: i for i, w in enumerate(FEW_WORDS)}),
        "its tokenizer knows .* tokens, its encoder",
    ),
    "a template of unknown tokens": (
        within(WORDS, "post_processor", "special_tokens", value={}),
        "cannot be read",
    ),
    "a class that is no tokenizer": (
        saying(TOKENIZER, tokenizer_class="BertModel"),
        "tokenizer_class is .*; expected the name of a tokenizer's class",
    ),
    "a length that is none": (saying(TOKENIZER, model_max_length="long"), "cannot be read"),
    # Weights: what their header says.
    "weights are empty": (holding(WEIGHTS, b""), "cannot be read"),
    "weights are cut": (cut(WEIGHTS, 0.5), "cannot be read"),
    "weights are a pointer": (holding(WEIGHTS, POINTER), "cannot be read"),
    "a header without end": (holding(WEIGHTS, struct.pack("<Q", 2**63) + b"{}"), "cannot be read"),
    "a header that is no JSON": (holding(WEIGHTS, struct.pack("<Q", 8) + b"\xff" * 8), "cannot"),
    "tensors that overlap": (header(_overlap), "cannot be read"),
    "tensors beyond the file": (header(_first(data_offsets=[0, 10**12])), "cannot be read"),
    "no tensors": (tensors(lambda _: {"x": torch.zeros(1)}), "lack 37 of the encoder's tensors"),
    "tensors under other names": (
        tensors(lambda held: {f"backbone.{name}": tensor for name, tensor in held.items()}),
        "lack 37 of the encoder's tensors, such as .*; save the bare encoder there",
    ),
    "a tensor less": (
        tensors(lambda held: {k: v for k, v in held.items() if k != WORD}),
        f"lack 1 of the encoder's tensors, such as {WORD}",
    ),
    "a tensor of another shape": (
        tensors(lambda held: held | {WORD: held[WORD][:, :8].contiguous()}),
        f"describes {WORD} as .*, the weights hold",
    ),
    # Weights in parts.
    "an index of files elsewhere": (part(x="../elsewhere.safetensors"), "beside it"),
    "an index of pickles": (part(x="part.bin"), "beside it"),
    "an index of missing files": (part(x="lost.safetensors"), "fetch those that are missing"),
    # Files that name what is elsewhere, or cannot be trained.
    "weights elsewhere": (
        saying(CONFIG, transformers_weights="../x.safetensors"),
        "expected model",
    ),
    "another configuration": (
        saying(CONFIG, configuration_files=["../config.1.json"]),
        "in that f",
    ),
    "words elsewhere": (
        saying(TOKENIZER, vocab_file=str(Path(__file__))),
        "leads out of the folder",
    ),
    "words of an argument": (saying(TOKENIZER, init_inputs=["/etc/passwd"]), "delete that key"),
    "quantised weights": (saying(CONFIG, quantization_config={"bits": 4}), "cannot be fine-tuned"),
    "an adapter": (
        saying("adapter_config.json", base_model_name_or_path="a/b"),
        "merge it into its",
    ),
}

NAMING_CODE = {
    "a model": saying(CONFIG, auto_map={"AutoModel": "evil.Model"}),
    "a model of a hub": saying(CONFIG, auto_map={"AutoModel": "evil/hub--evil.Model"}),
    "a configuration": saying(CONFIG, auto_map={"AutoConfig": "evil.Config"}),
    "a configuration of no known type": saying(
        CONFIG, model_type="evil", auto_map={"AutoConfig": "evil.Config"}
    ),
    "a tokenizer": saying(TOKENIZER, auto_map={"AutoTokenizer": ["evil.Tokenizer", None]}),
    "a tokenizer, as once": saying(TOKENIZER, auto_map=["evil.Tokenizer", None]),
    "a model within": saying(CONFIG, text_config={"a": [{"auto_map": {"AutoModel": "evil.M"}}]}),
    "a processor": saying("processor_config.json", auto_map={"AutoProcessor": "evil.Processor"}),
    "a kernel": saying(CONFIG, _attn_implementation_internal="evil/kernel"),
    "a kernel, said openly": saying(CONFIG, attn_implementation="evil/kernel:fn"),
    "a kernel of a revision": saying(CONFIG, _attn_implementation="evil/kernel@main"),
    "a paged kernel": saying(CONFIG, _attn_implementation="paged|evil/kernel"),
    "a kernel by part": saying(CONFIG, _attn_implementation={"": "sdpa", "text": "evil/kernel"}),
    "a kernel within": saying(CONFIG, vision_config={"_attn_implementation_internal": "evil/k"}),
    "a kernel of experts": saying(CONFIG, experts_implementation="evil/kernel"),
    "a kernel, escaped": holding(
        CONFIG, rb'{"model_type": "bert", "_attn_impl\u0065mentation": "evil\/kernel"}'
    ),
    "another model's code": saying(CONFIG, trust_remote_code=True),
    "another model's code within": saying(CONFIG, detector={"trust_remote_code": True}),
}

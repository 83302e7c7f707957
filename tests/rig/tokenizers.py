"""Folders of tiny tokenizers, each as published checkpoints bring them; none downloaded.

Each folder holds a configuration of `N_TOKENS` words, and no weights.
"""

import json
import shutil
from pathlib import Path

from sentencepiece import SentencePieceTrainer
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers.trainers import BpeTrainer, WordPieceTrainer

LINES = [
    "the lovely day was warm and bright",
    "a dark house on the road",
    "“quoted” words — and more… of it",
    "café and naïve déjà vu",
    "The Magnetic tree, in 24: seven, eight!",
    "no break here ﬁne ﬂat",
    "ＦＵＬＬ width letters",
    "it was then upward, sideways; don't say no",
] * 4
# What normalisers change, what vocabularies lack, and spaces where they do not belong.
TEXTS = [
    "the lovely day",
    "The Lovely Magnetic HOUSE",
    "“quoted” — of it…",
    "café and naïve ÉTÉ",
    "no\u00a0break ﬁne",
    "ＦＵＬＬ width",
    " two  spaces\nnew line \t tab ",
    "☃ 東京 unknown",
]
UNIGRAM = {"normalization_rule_name": "nmt_nfkc", "vocab_size": 120}
BYTES = UNIGRAM | {"byte_fallback": True, "vocab_size": 380}
PAIRS = {
    "model_type": "bpe",
    "byte_fallback": True,
    "vocab_size": 420,
    "normalization_rule_name": "identity",
    "remove_extra_whitespaces": False,
}
BERT_LIKE = {"pad_id": 0, "unk_id": 1, "bos_id": -1, "eos_id": -1}
BERT_LIKE |= {"control_symbols": "[CLS],[SEP],[MASK]"}
T5_LIKE = {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1}
DEBERTA = {"pad_id": 0, "bos_id": 1, "eos_id": 2, "unk_id": 3}
DEBERTA |= {"pad_piece": "[PAD]", "bos_piece": "[CLS]", "eos_piece": "[SEP]", "unk_piece": "[UNK]"}
AS_WRITTEN = {"do_lower_case": False, "keep_accents": True}
# The model's type, the name of its file, tokenizer_config.json, and how it is trained.
SENTENCEPIECES = {
    "deberta-v3": ("deberta-v2", "spm.model", {"do_lower_case": False}, UNIGRAM | DEBERTA),
    "deberta-v3-bytes": ("deberta-v2", "spm.model", {}, BYTES | DEBERTA),
    "xlm-roberta": ("xlm-roberta", "sentencepiece.bpe.model", {}, UNIGRAM),
    "mbart": ("mbart", "sentencepiece.bpe.model", {}, UNIGRAM),
    "t5": ("t5", "spiece.model", {}, UNIGRAM | T5_LIKE),
    "mt5": ("mt5", "spiece.model", {}, BYTES | T5_LIKE),
    "pegasus": ("pegasus", "spiece.model", {}, UNIGRAM | T5_LIKE),
    "albert": ("albert", "spiece.model", {"do_lower_case": True}, UNIGRAM | BERT_LIKE),
    "fnet": ("fnet", "spiece.model", AS_WRITTEN, UNIGRAM | BERT_LIKE),
    "rembert": ("rembert", "sentencepiece.model", AS_WRITTEN, UNIGRAM | BERT_LIKE),
    "big_bird": (
        "big_bird",
        "spiece.model",
        {},
        UNIGRAM
        | {"pad_id": 0, "eos_id": 1, "bos_id": 2, "unk_id": 3}
        | {"control_symbols": "[CLS],[SEP],[MASK]"},
    ),
    "xlnet": (
        "xlnet",
        "spiece.model",
        {},
        UNIGRAM | {"control_symbols": "<cls>,<sep>,<pad>,<mask>,<eod>"},
    ),
    "llama": ("llama", "tokenizer.model", {"tokenizer_class": "LlamaTokenizer"}, PAIRS),
    "llama-unnamed": ("llama", "tokenizer.model", None, PAIRS),
    "mistral": ("mistral", "tokenizer.model", {"tokenizer_class": "LlamaTokenizer"}, PAIRS),
    "gemma": (
        "gemma",
        "tokenizer.model",
        {"tokenizer_class": "GemmaTokenizer"},
        PAIRS | {"pad_id": 0, "eos_id": 1, "bos_id": 2, "unk_id": 3, "add_dummy_prefix": False},
    ),
}
NAMES = {f"{kind}_token": f"[{kind.upper()}]" for kind in ("pad", "unk", "cls", "sep", "mask")}
ROBERTA = {"tokenizer_class": "RobertaTokenizer"}
# The model's type, tokenizer_config.json, and what tokenizer.json is, though the class differs.
FILED = {
    "camembert-v2": ("roberta", ROBERTA | NAMES, "words"),
    "words under RoBERTa": ("roberta", ROBERTA, "words"),
    "lower-cased bytes under RoBERTa": ("roberta", ROBERTA, "bytes"),
    "lower-cased words, said not to be": ("bert", {"do_lower_case": False}, "words"),
    "spaces before the first word": ("gpt2", {}, "prefixed"),
}
BERTWEET = ["lov@@ 9", "ely 9", "the 9", *(f"{c}@@ 9" for c in "abdehilmnoty"), "e 9", "y 9"]


def write_sentencepiece(folder, name):
    """Write a folder as of the family `name`: a sentencepiece model and no tokenizer.json."""
    kind, file, settings, trained = SENTENCEPIECES[name]
    _configure(folder, kind, settings)
    SentencePieceTrainer.train(
        sentence_iterator=iter(LINES),
        model_prefix=str(folder / "trained"),
        character_coverage=1.0,
        hard_vocab_limit=False,
        minloglevel=2,
        **trained,
    )
    (folder / "trained.vocab").unlink()
    (folder / "trained.model").rename(folder / file)


def write_filed(folder, name):
    """Write a folder whose tokenizer.json is another tokenizer than its class would make of it."""
    kind, settings, file = FILED[name]
    _configure(folder, kind, settings)
    _FILES[file]().save(str(folder / "tokenizer.json"))


def write_bertweet(folder, *, settings=None):
    """Write a folder of BERTweet's class: `vocab.txt` and `bpe.codes`, no tokenizer.json."""
    _configure(folder, "roberta", settings, tokenizer_class="BertweetTokenizer")
    (folder / "vocab.txt").write_text("\n".join([*BERTWEET, ""]))
    (folder / "bpe.codes").write_text("l o 5\nlo v 4\nt h 4\nth e</w> 3\ne l 3\nel y</w> 2\n")


def with_weights(source, n_tokens, folder):
    """Write an encoder of two layers for `n_tokens`, and the tokenizer's files of `source`.

    Its configuration says what that of `source` does.
    """
    import torch
    import transformers

    kind = json.loads((source / "config.json").read_text())
    family = {"roberta": "Roberta", "deberta-v2": "DebertaV2"}[kind.pop("model_type")]
    config = getattr(transformers, f"{family}Config")(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
        pad_token_id=0,
        **kind | {"vocab_size": n_tokens},
    )
    torch.manual_seed(0)
    getattr(transformers, f"{family}Model")(config).save_pretrained(folder)
    for file in source.iterdir():
        if file.name != "config.json":
            shutil.copy(file, folder)
    return folder


def _configure(folder, kind, settings, **more):
    Path(folder).mkdir(parents=True)
    content = {"model_type": kind, "vocab_size": 400, **more}
    (folder / "config.json").write_text(json.dumps(content))
    if settings is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def _words():
    made = Tokenizer(models.WordPiece({}, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    made.train_from_iterator(
        LINES, WordPieceTrainer(vocab_size=200, special_tokens=special, show_progress=False)
    )
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return made


def _bytes(normalizer, *, prefixed):
    made = Tokenizer(models.BPE())
    made.normalizer = normalizer
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefixed)
    made.decoder = decoders.ByteLevel()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "<|endoftext|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = BpeTrainer(
        vocab_size=380, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator(LINES, trainer)
    made.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    return made


_FILES = {
    "words": _words,
    "bytes": lambda: _bytes(normalizers.Lowercase(), prefixed=False),
    "prefixed": lambda: _bytes(normalizers.NFC(), prefixed=True),
}

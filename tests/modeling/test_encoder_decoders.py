"""Of an encoder-decoder the encoder is read, from whatever checkpoint holds it."""

import shutil

import pytest
import torch
import transformers
from safetensors.torch import load_file, save, save_file
from torch.testing import assert_close
from transformers import AutoModel, AutoModelForSeq2SeqLM

from poolblend.errors import UserError
from poolblend.modeling import backbone, masked_lm
from poolblend.modeling.model import build_model
from poolblend.training.batches import collate
from rig.encoding import encode
from rig.families import BART, ENCODER_DECODERS, FAMILIES, N_LAYERS, SIZES, T5, WIDTH

SETTINGS = dict(pooler_args={}, mask="attention", n_outputs=1, dropout=0.0, norm="none")


def config_of(name):
    return getattr(transformers, FAMILIES[name].config)(**FAMILIES[name].sizes)


@pytest.fixture
def saved(tmp_path, tiny_backbone):
    """Function of a model: the folder that holds it, and a tokenizer."""

    def folder(model):
        shutil.copytree(tiny_backbone, tmp_path / "saved")
        model.save_pretrained(tmp_path / "saved")
        return tmp_path / "saved"

    return folder


def check_states(folder, encoder):
    """Every layer's states are those of `encoder`."""
    base = backbone.load(folder)
    assert backbone.check(folder, 16) == base.shape == (WIDTH, N_LAYERS, 48)
    inputs = dict(input_ids=torch.tensor([[5, 9, 7, 8]]), attention_mask=torch.ones(1, 4).long())
    with torch.no_grad():
        found, expected = (
            model.eval()(**inputs, output_hidden_states=True).hidden_states
            for model in (base.encoder, encoder)
        )
    for x_BTH, y_BTH in zip(found, expected, strict=True):
        assert_close(x_BTH, y_BTH, rtol=0, atol=0)
    assert not [name for name, _ in base.encoder.named_parameters() if "decoder" in name]
    return base


@pytest.mark.parametrize("name", ENCODER_DECODERS)
def test_the_encoder_of_a_whole_checkpoint_is_read(saved, name):
    head = AutoModel if name == "bart" else AutoModelForSeq2SeqLM
    model = head.from_config(config_of(name))
    base = check_states(saved(model), model.get_encoder())
    save(base.encoder.state_dict())  # refuses tensors that share memory


@pytest.mark.parametrize("name", ["bart", "t5", "T5EncoderModel"])
def test_a_checkpoint_of_the_encoder_alone_is_read(saved, name):
    if name == "T5EncoderModel":
        encoder = transformers.T5EncoderModel(transformers.T5Config(**T5))
    else:
        encoder = AutoModel.from_config(config_of(name)).get_encoder()
    check_states(saved(encoder), encoder)


def test_embeddings_under_all_their_names_are_read(saved):
    """Older versions of transformers saved each of the names that BART's embeddings have."""
    model = transformers.BartModel(transformers.BartConfig(**BART))
    folder = saved(model)
    weights = load_file(folder / "model.safetensors")
    for part in ("encoder", "decoder"):
        weights[f"{part}.embed_tokens.weight"] = weights["shared.weight"].clone()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    check_states(folder, model.get_encoder())


@pytest.mark.parametrize(
    ("config", "sizes"),
    [
        ("LEDConfig", BART | dict(max_encoder_position_embeddings=64, attention_window=8)),
        ("LongT5Config", T5 | dict(local_radius=4)),
    ],
)
def test_other_families_of_the_kind_are_read(saved, config, sizes):
    model = AutoModel.from_config(getattr(transformers, config)(**sizes))
    check_states(saved(model), model.get_encoder())


def test_an_encoder_that_is_no_model_of_its_own_is_refused_before_training(saved):
    sizes = BART | dict(langs=["a", "b"], src_vocab_size=48, tgt_vocab_size=48)
    sizes.pop("vocab_size")
    folder = saved(AutoModel.from_config(transformers.FSMTConfig(**sizes)))
    with pytest.raises(UserError) as caught:
        backbone.check(folder, 16)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["bart", "t5"])
def test_a_checkpoint_with_other_encoder_layers_is_refused(saved, name):
    config = config_of(name)
    folder = saved(AutoModel.from_config(config))
    for n_layers, line in ((4, "lack .* of the encoder's tensors"), (2, "the weights hold more")):
        changed = {"t5": {"num_layers": n_layers}, "bart": {"encoder_layers": n_layers}}[name]
        type(config)(**FAMILIES[name].sizes | changed).save_pretrained(folder)
        with pytest.raises(UserError, match=line):
            backbone.check(folder, 16)


@pytest.mark.parametrize(
    "config",
    [
        transformers.BigBirdConfig(**SIZES, block_size=4),
        transformers.BigBirdPegasusConfig(**BART, block_size=4),
    ],
    ids=lambda config: config.model_type,
)
def test_bigbird_reads_with_full_attention_whatever_was_read_before(saved, config):
    base = backbone.load(saved(AutoModel.from_config(config)))
    assert base.encoder.config.attention_type == "original_full"


@pytest.mark.parametrize("name", ["bart", "marian"])
def test_absolute_positions_bound_the_length_and_masked_tokens_cannot_be_predicted(saved, name):
    folder = saved(AutoModel.from_config(config_of(name)))
    backbone.check(folder, 64)
    with pytest.raises(UserError, match="reads at most 64 tokens"):
        backbone.check(folder, 65)
    with pytest.raises(UserError, match="backbone.mlm: .* has no head that predicts"):
        masked_lm.check(folder, 16)


@pytest.mark.parametrize("name", ["t5", "deberta-v3", "llama"])
def test_a_tokenizers_own_maximum_is_a_hint(saved, caplog, name):
    folder = saved(AutoModel.from_config(config_of(name)))  # its tokenizer states 64 tokens
    backbone._log_once.cache_clear()
    with caplog.at_level("INFO"):
        assert backbone.check(folder, 1024) == backbone.check(folder, 1024)
    (record,) = caplog.records
    assert "states at most 64 tokens" in record.getMessage()
    base = backbone.load(folder)
    encoded = encode([["lovely day " * 400]], base.tokenizer, 1024)
    assert encoded.n_truncated == 0
    assert len(encoded.ids[0]) > 800
    model = build_model(base, pooler="mean", **SETTINGS)[0].eval()
    assert model(collate(encoded, [0])).isfinite().all()

import json
import shutil
from dataclasses import replace

import huggingface_hub.constants
import pytest
import torch

from poolblend.errors import UserError
from poolblend.modeling import backbone

APART = ("encoder", "tokenizer", "own_pooler", "kept")  # made anew by each loading


def test_the_encoder_comes_in_fp32_and_its_pooler_apart(tiny_backbone):
    base = backbone.load(tiny_backbone)
    assert base.shape.hidden_size == 16
    assert base.shape.n_layers == 2
    assert {p.dtype for p in base.encoder.parameters()} == {torch.float32}
    assert not [name for name, _ in base.encoder.named_parameters() if "pooler" in name]
    assert base.own_pooler is not None
    assert backbone.check(tiny_backbone, 64) == base.shape


def test_a_pooler_absent_from_the_checkpoint_counts_as_none(tmp_path, tiny_backbone):
    from safetensors.torch import load_file, save_file

    shutil.copytree(tiny_backbone, tmp_path / "bare")
    weights = tmp_path / "bare" / "model.safetensors"
    kept = {k: v for k, v in load_file(weights).items() if not k.startswith("pooler")}
    save_file(kept, weights, metadata={"format": "pt"})
    assert backbone.load(tmp_path / "bare").own_pooler is None


def test_an_encoder_is_rebuilt_from_its_configuration_alone(tmp_path, tiny_backbone):
    for file in tiny_backbone.iterdir():
        if file.suffix != ".safetensors":
            shutil.copy(file, tmp_path)
    built = backbone.build(tmp_path)
    loaded = backbone.load(tiny_backbone)
    assert built.encoder.state_dict().keys() == loaded.encoder.state_dict().keys()


def test_loading_leaves_the_random_numbers_as_they_were(tiny_backbone):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    backbone.load(tiny_backbone)
    assert torch.equal(torch.get_rng_state(), before)


def test_an_encoder_is_tried_once_and_again_when_a_file_of_its_folder_changes(
    tmp_path, tiny_backbone, monkeypatch
):
    folder, tried = copy_of(tiny_backbone, tmp_path), []
    effect = backbone.padding_effect

    def counted(*given):
        tried.append(given)
        return effect(*given)

    monkeypatch.setattr(backbone, "padding_effect", counted)
    first, second = backbone.load(folder), backbone.load(folder)
    assert len(tried) == 1
    assert first == replace(second, **{name: getattr(first, name) for name in APART})
    (folder / "notes.txt").write_text("changed")
    backbone.load(folder)
    assert len(tried) == 2
    path = folder / "config.json"
    named = json.loads(path.read_text()) | {"auto_map": {"AutoModel": "evil.Model"}}
    path.write_text(json.dumps(named))
    with pytest.raises(UserError, match="names code in `auto_map`"):
        backbone.load(folder)


@pytest.mark.parametrize("offline", [True, False])
def test_reading_a_folder_asks_no_hub(tmp_path, tiny_backbone, monkeypatch, offline):
    folder, asked = copy_of(tiny_backbone, tmp_path), []

    def refuse(*address, **_):
        asked.append(address)
        raise OSError("no network")

    monkeypatch.setattr("socket.create_connection", refuse)
    monkeypatch.setattr("socket.getaddrinfo", refuse)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", offline)
    backbone.check(folder, 16)
    backbone.load(folder)
    backbone.build(folder)
    path = folder / "config.json"  # a configuration that takes a part of it from a hub
    part = {"model_type": "hubert", "_name_or_path": "some/encoder"}
    changed = {"model_type": "xcodec", "semantic_model_config": part}
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))
    with pytest.raises(UserError, match="cannot be read"):
        backbone.check(folder, 16)
    assert asked == []
    assert offline == huggingface_hub.constants.HF_HUB_OFFLINE


def test_positions_bound_the_length_whether_the_tokenizer_states_a_limit_or_not(
    tmp_path, tiny_backbone
):
    folder = copy_of(tiny_backbone, tmp_path)
    for stated in (64, 10**6):
        path = folder / "tokenizer_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"model_max_length": stated}))
        assert backbone.check(folder, 64).n_layers == 2
        with pytest.raises(UserError, match="max_length is 65, but .* reads at most 64 tokens"):
            backbone.check(folder, 65)


def copy_of(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "copy")
    return tmp_path / "copy"

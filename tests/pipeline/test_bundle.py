"""A bundle is all that a machine without a network needs, and no more than Kaggle takes."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from poolblend import config, pipeline
from poolblend.cards.card import DamagedError
from poolblend.errors import UserError
from poolblend.loading.competition import open_store
from poolblend.pipeline import bundling
from poolblend.store import Store, files
from poolblend.store import bundle as bundles
from poolblend.store.bundle import MARKER, NOTEBOOK, Bundle
from rig import toys
from rig.audit import close, seen
from rig.wheels import write_wheels

ROOT = Path(__file__).parents[2]
BLEND = {"fitter": "equal", "fitters": ["equal"], "resamples": 50}
MEMBERS = ["mean", {"pooler": "max", "train": {"freeze_layers": 2}}]


@pytest.fixture(scope="module")
def place(_imported, tiny_backbone, tmp_path_factory):
    """The folder of a blended run, one of whose members has a base; and of the wheels."""
    place = tmp_path_factory.mktemp("bundled")
    keys = {"folds": {"n": 2}, "metric": "log_loss", "submission": "probabilities"}
    keys |= {"members": [*MEMBERS, "cls"], "blend": BLEND}
    path = toys.write_toy(place, tiny_backbone, n=36, n_test=3, **keys)
    pipeline.train(config.load(path))
    pipeline.blend(config.load(path), members=["tiny-mean-s42", "tiny-max-s42"])
    write_wheels(place / "wheels", bundling.LACKING)
    return place


@pytest.fixture
def settings(place):
    return config.load(place / "toy.yaml")


@pytest.fixture
def bundle(place, settings, tmp_path):
    """Function of further arguments: the bundle in a new folder."""

    def make(**chosen):
        given = {"wheels": place / "wheels", "owner": "me", "competition": "spooky"}
        return Bundle(pipeline.bundle(settings, tmp_path / "bundle", **{**given, **chosen}))

    return make


def names(folder):
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


def test_it_holds_the_models_with_weight_and_no_links(bundle, settings, place):
    store = open_store(settings)
    shutil.move(store.root / "models", place / "elsewhere")
    (store.root / "models").symlink_to(place / "elsewhere")  # as after a move to a larger disk
    try:
        made = bundle()
    finally:
        (store.root / "models").unlink()
        shutil.move(place / "elsewhere", store.root / "models")
    assert not [path for path in made.folder.rglob("*") if path.is_symlink()]
    held = names(made.dataset)
    card = made.card()
    assert held - set(card.files) == {"poolblend-bundle.json", "dataset-metadata.json"}
    assert card.weights == {"tiny-max-s42": 0.5, "tiny-mean-s42": 0.5}
    assert not any("tiny-cls" in name for name in held)
    assert card.tables == ("test.csv", "sample_submission.csv")
    there = Store(made.dataset, "toy")
    for member in card.weights:
        for fold in range(2):
            assert there.fold(member, fold).check() == store.fold(member, fold).card()
    assert there.read_blend() == store.read_blend()
    given = config.load(made.dataset / "config.yaml")
    assert given.resolve_members() == settings.resolve_members()


def test_its_wheel_is_all_of_the_code_and_no_config_of_the_checkout(bundle):
    made = bundle()
    [wheel] = (made.dataset / "wheels").glob("poolblend-*.whl")
    with zipfile.ZipFile(wheel) as file:
        packed = {name for name in file.namelist() if ".dist-info" not in name}
    code = {name for name in names(ROOT / "src" / "poolblend") if name.endswith((".py", ".txt"))}
    presets = {f"configs/presets/{name}" for name in names(ROOT / "configs" / "presets")}
    assert packed == {f"poolblend/{name}" for name in code | presets}


def test_half_precision_is_compared_with_full(bundle, settings, capsys):
    from safetensors.torch import load_file

    full, store = bundle().card(), open_store(settings)
    made = bundle(half=True)
    card, there = made.card(), Store(made.dataset, "toy")
    said = card.agreement
    assert said.describe() in capsys.readouterr().out
    assert said.rows == 36
    assert 0 < said.mean < said.largest < 0.01
    assert said.score != said.half_score
    assert said.score == pytest.approx(store.read_blend().blenders["equal"].in_sample)
    for name, file in full.files.items():
        if name.endswith("model.safetensors"):
            before, after = load_file(store.root / name), load_file(made.dataset / name)
            for key, tensor in before.items():
                half = "bases" in name or key.startswith("encoder.")
                assert after[key].dtype == (tensor.half() if half else tensor).dtype
            assert card.files[name].bytes < file.bytes or "max" in name  # of which the base has all
    for member in card.weights:
        for fold in range(2):
            there.fold(member, fold).check()


def test_models_without_an_encoder_are_bundled_as_they_are(toy, place, tmp_path, capsys):
    sets = ["members=[mean, tfidf]", "folds.n=2", "train.epochs=1"]
    settings = config.load(toy(n=36, n_test=8, blend=BLEND), sets)
    pipeline.train(settings)
    pipeline.blend(settings)
    made = Bundle(
        pipeline.bundle(settings, tmp_path / "bundle", half=True, wheels=place / "wheels")
    )
    tfidf = [name for name in made.card().files if "tfidf" in name and name.startswith("models")]
    root = open_store(settings).root
    assert len(tfidf) >= 4
    assert all((made.dataset / n).read_bytes() == (root / n).read_bytes() for n in tfidf)
    there = settings.model_copy(update={"store": str(made.dataset)})
    found = pd.read_csv(pipeline.infer(there, out=tmp_path / "there.csv"))
    pd.testing.assert_frame_equal(found, pd.read_csv(pipeline.infer(settings)), atol=1e-3)
    pipeline.estimate(settings, 10)
    assert "for 4 fold models and 8 rows; about" in capsys.readouterr().out


def test_weights_too_large_for_half_precision_are_refused(bundle, settings, tmp_path, monkeypatch):
    import torch

    whole = torch.Tensor.half
    monkeypatch.setattr(torch.Tensor, "half", lambda tensor: whole(tensor * 1e8))
    with pytest.raises(UserError, match="has values beyond 65,504.*leave out --fp16"):
        bundle(half=True)
    assert names(tmp_path) == set()


# --- what is refused ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limit", "value", "line"),
    [
        ("MOST_FILES", 20, "the bundle would have 38 files, a dataset of Kaggle at most 20"),
        ("MOST_BYTES", 2e4, r"the bundle would have 0.0 GB, a dataset of Kaggle.*--fp16"),
    ],
)
def test_more_than_kaggle_takes_is_refused(bundle, tmp_path, monkeypatch, limit, value, line):
    monkeypatch.setattr(bundles, limit, value)
    with pytest.raises(UserError, match=line):
        bundle()
    assert names(tmp_path) == set()


@pytest.mark.parametrize(
    ("chosen", "line"),
    [
        ({"owner": "no/name"}, "--owner 'no/name': expected the name in Kaggle's addresses"),
        ({"competition": ""}, "--competition '': expected the name"),
        ({"wheels": ROOT / "configs"}, "configs has no wheel of iterative-stratification"),
    ],
)
def test_what_cannot_be_used_is_one_line(bundle, tmp_path, chosen, line):
    with pytest.raises(UserError, match=line):
        bundle(**chosen)
    assert names(tmp_path) == set()


def test_without_a_network_it_says_where_wheels_may_come_from(bundle, monkeypatch, tmp_path):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(UserError, match="iterative-stratification.* be downloaded .*--wheels FOLD"):
        bundle(wheels=None)
    assert names(tmp_path) == set()


def test_a_folder_that_is_something_else_stays(bundle, tmp_path):
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "mine").write_text("mine")
    with pytest.raises(UserError, match="bundle exists and is no bundle; name a new folder"):
        bundle()
    assert names(tmp_path) == {"bundle/mine"}


def test_after_a_kill_the_same_command_makes_the_bundle(bundle, tmp_path):
    """Killed while the first dataset is written, and while an older one is removed."""
    started = tmp_path / "bundle" / f".dataset.{files._machine()}-{2**30}.tmp"
    started.mkdir(parents=True)
    (started / "half").write_text("half")
    made = bundle()
    (made.dataset / MARKER).unlink()
    shutil.rmtree(made.dataset / "models")
    assert bundle().card() is not None
    assert (made.dataset / "models").is_dir()
    assert not started.exists()


def test_members_from_elsewhere_and_damaged_models_are_refused(finished, tmp_path, place):
    store = finished.store
    with pytest.raises(UserError, match="member gbm is from elsewhere and has no model here"):
        pipeline.bundle(finished.settings, tmp_path / "bundle", wheels=place / "wheels")
    pipeline.blend(finished.settings, members=["tiny-mean-s42"])
    file = store.fold_folder("tiny-mean-s42", 1) / "tokenizer.json"
    file.write_text(file.read_text().replace("good", "evil").replace("house", "mouse"))
    with pytest.raises(DamagedError, match="tokenizer.json is damaged"):
        pipeline.bundle(finished.settings, tmp_path / "bundle", wheels=place / "wheels")
    assert not (tmp_path / "bundle" / "dataset").exists()


@pytest.mark.parametrize("run", ["a", "größe 文字", "UPPER_case", "x" * 100, "-dash-"])
def test_titles_and_slugs_are_such_as_kaggle_takes(run):
    dataset, kernel = bundling.metadata(run, "me", None)
    for each in (dataset, kernel):
        owner, slug = each["id"].split("/")
        assert owner == "me"
        assert 6 <= len(slug) <= 50
        assert 6 <= len(each["title"]) <= 50
        assert each["title"].replace(" ", "-") == slug  # as Kaggle makes it of the title
        assert slug.strip("-") == slug
        assert "--" not in slug
    assert dataset["id"] != kernel["id"]
    assert kernel["dataset_sources"] == [dataset["id"]]
    assert kernel["enable_internet"] is False
    assert kernel["machine_shape"] == "NvidiaTeslaT4"
    assert len(dataset["licenses"]) == 1


# --- the notebook, as Kaggle runs it ----------------------------------------------------------


@pytest.fixture
def kaggle(place, bundle, tmp_path):
    """Runs the bundle's notebook over the test table, on a machine as Kaggle's."""
    made, root, working = bundle(), tmp_path / "kaggle" / "input", tmp_path / "kaggle" / "working"
    working.mkdir(parents=True)

    def run(layout, n_rows, **environment):
        shutil.rmtree(root, ignore_errors=True)
        dataset, tables = (root / each for each in LAYOUTS[layout])
        ignored = shutil.ignore_patterns("dataset-metadata.json")  # which is not uploaded
        shutil.copytree(made.dataset, dataset, ignore=ignored)
        write_tables(place / "data", tables, n_rows)
        close(root)
        before = seen(root)
        alone = ["unshare", "-rn"] if has_namespaces() else []
        program = [sys.executable, ROOT / "tests" / "rig" / "headless.py", made.notebook / NOTEBOOK]
        done = subprocess.run(
            [*alone, *map(str, program)],
            cwd=working,
            env=os.environ | surroundings(tmp_path) | {"POOLBLEND_INPUT": str(root)} | environment,
            capture_output=True,
            text=True,
        )
        assert seen(root) == before
        for name in ("hub", "cache"):
            assert names(tmp_path / name) == set()
        return done

    run.working, run.root = working, root
    return run


LAYOUTS = {
    "flat": ("poolblend-toy-models", "spooky"),
    "by kind": ("datasets/me/poolblend-toy-models", "competitions/spooky"),
}
RERUN = {"KAGGLE_IS_COMPETITION_RERUN": "1"}


def has_namespaces():
    if shutil.which("unshare") is None:
        return False
    return subprocess.run(["unshare", "-rn", "true"], capture_output=True).returncode == 0


def surroundings(place):
    """An empty home and hub's cache; where there is no namespace, proxies that lead nowhere."""
    nowhere = dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), "http://127.0.0.1:9")
    for name in ("home", "hub", "cache", "jupyter"):
        (place / name).mkdir(exist_ok=True)
    homes = {"HOME": "home", "HF_HOME": "hub", "XDG_CACHE_HOME": "cache", "IPYTHONDIR": "jupyter"}
    homes |= {"JUPYTER_RUNTIME_DIR": "jupyter"}
    return {name: str(place / folder) for name, folder in homes.items()} | nowhere


def write_tables(source, target, n_rows):
    """The competition's tables with `n_rows` rows to predict, the first of which are visible."""
    target.mkdir(parents=True)
    shutil.copy2(source / "train.csv", target)
    for name in ("test", "sample_submission"):
        table = pd.read_csv(source / f"{name}.csv")
        more = table.iloc[np.resize(np.arange(len(table)), n_rows)]
        more.assign(id=[f"h{n}" for n in range(n_rows)]).to_csv(target / f"{name}.csv", index=False)


def expected(settings, tables, out):
    """The submission of the run itself."""
    data = settings.data.model_copy(update={"dir": str(tables)})
    return pipeline.infer(settings.model_copy(update={"data": data}), out=out)


def check(run, layout, settings, tmp_path, n_rows):
    assert [path.name for path in run.working.iterdir()] == ["submission.csv"]
    tables = run.root / LAYOUTS[layout][1]
    found = pd.read_csv(run.working / "submission.csv")
    wanted = pd.read_csv(expected(settings, tables, tmp_path / "expected.csv"))
    assert len(found) == n_rows
    pd.testing.assert_frame_equal(found, wanted, atol=1e-6)


def test_the_notebook_submits_hidden_rows_without_a_network(kaggle, settings, tmp_path):
    done = kaggle("by kind", 1000, **RERUN)
    assert done.returncode == 0, done.stderr + done.stdout
    assert "times as many" not in done.stdout
    check(kaggle, "by kind", settings, tmp_path, 1000)


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_same_bundle_serves_visible_and_hidden_rows(kaggle, settings, tmp_path, layout):
    done = kaggle(layout, 3)
    assert done.returncode == 0, done.stderr + done.stdout
    assert "for 4 fold models and 3 rows; about" in done.stdout
    check(kaggle, layout, settings, tmp_path, 3)
    done = kaggle(layout, 1000, **RERUN)
    assert done.returncode == 0, done.stderr + done.stdout
    check(kaggle, layout, settings, tmp_path, 1000)


@pytest.mark.slow
def test_the_notebook_says_what_it_lacks(kaggle, monkeypatch):
    monkeypatch.setitem(LAYOUTS, "no tables", ("models", "working/elsewhere/a/b/c/d/e/f"))
    done = kaggle("no tables", 3)
    assert done.returncode == 1
    assert f"no folder below {kaggle.root} has test.csv and sample_submission.csv" in done.stderr


def test_the_metadata_says_whose_it_is(bundle, capsys):
    made = bundle(owner=None, competition=None)
    missing = "still to be given, here or to poolblend submit: --owner, --competition"
    assert missing in capsys.readouterr().out
    dataset, kernel = made.metadata()
    assert dataset["id"] == "INSERT_OWNER_HERE/poolblend-toy-models"
    assert kernel["competition_sources"] == []
    dataset, kernel = bundle().metadata()
    assert kernel["id"] == "me/poolblend-toy"
    assert json.dumps(kernel["competition_sources"]) == '["spooky"]'


def test_joined_tables_travel_with_it_and_the_competitions_own_is_read_first(toy, place, tmp_path):
    path = toy(n=36, n_test=3, blend=BLEND, metric="log_loss", submission="probabilities")
    data = tmp_path / "data"
    for name in ("train", "test"):
        table = pd.read_csv(data / f"{name}.csv")
        table.assign(prompt=0).to_csv(data / f"{name}.csv", index=False)
    pd.DataFrame({"prompt": [0], "question": ["why"]}).to_csv(data / "own.csv", index=False)
    sets = ["members=[tfidf]", "folds.n=2", "data.text=[question, text]"]
    sets += ["data.joins=[{train: own.csv, on: prompt}]"]
    settings = config.load(path, sets)
    pipeline.train(settings)
    pipeline.blend(settings)
    expected = pd.read_csv(pipeline.infer(settings))
    made = Bundle(pipeline.bundle(settings, tmp_path / "bundle", wheels=place / "wheels"))
    assert "tables/own.csv" in made.card().files
    assert made.card().tables == ("test.csv", "sample_submission.csv")
    (there := tmp_path / "there").mkdir()
    for name in made.card().tables:
        shutil.copy(data / name, there)
    cells = json.loads((made.notebook / "poolblend.ipynb").read_text())["cells"]
    (code,) = ("".join(c["source"]) for c in cells if "places =" in "".join(c["source"]))
    code = code[code.index("places =") : code.index("sets =")]
    for own in (False, True):
        if own:
            shutil.copy(data / "own.csv", there)
        found = {"bundle": made.dataset, "data": there, "json": json, "Path": Path}
        exec(code, found)
        (join,) = found["places"]["data.joins"]
        assert Path(join["test"]).parent == (there if own else made.dataset / "tables")
        sets = [f"{key}={json.dumps(value)}" for key, value in found["places"].items()]
        given = config.load(made.dataset / "config.yaml", sets)
        pipeline.infer(given, out=tmp_path / "out.csv")
        pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "out.csv"), expected)

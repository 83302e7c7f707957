"""Backbones are trained on further before the folds that use them, once, and on texts alone."""

import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from poolblend import config, pipeline
from poolblend.errors import Stopped, UserError
from poolblend.loading.competition import open_store
from poolblend.modeling import backbone
from poolblend.training.fit import Fit
from rig.cards import checkpoint_card
from rig.masked import write_masked_encoder
from rig.toys import write_toy

NAME, MEMBER = "tiny-mlm", "tiny-mlm-max-s42"
MLM = {"epochs": 2, "lr": 0.01, "batch_size": 8, "max_length": 16}
SETS = [
    *("folds.n=2", "train.epochs=1", "train.batch_size=16", "checkpoints.minutes=null"),
    *(f"backbone.mlm.{key}={value}" for key, value in MLM.items()),
]
STEPS = 8  # of the backbone: 2 epochs of the 32 texts, less 2, in batches of 8


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_masked_encoder(tmp_path_factory.mktemp("backbones") / "tiny")


@pytest.fixture(scope="module")
def path(tmp_path_factory, source):
    """A config, to which SETS add that its backbone is trained on further."""
    return write_toy(tmp_path_factory.mktemp("toy"), source, n=24, n_test=8)


@pytest.fixture(scope="module")
def whole(_imported, path, tmp_path_factory):
    """A store with the backbone and one fold, which nothing interrupted."""
    root = tmp_path_factory.mktemp("whole")
    train(config.load(path, [*SETS, f"store={root}"]))
    return root


@pytest.fixture
def settings(path, tmp_path):
    """Makes the settings of a run in an empty store."""

    def settings(*sets):
        return config.load(path, [*SETS, f"store={tmp_path / 'store'}", *sets])

    return settings


@pytest.fixture
def finished(whole, settings, tmp_path):
    """The whole store's settings and store, to be changed at will."""
    shutil.copytree(whole, tmp_path / "store")
    return settings(), open_store(settings())


@pytest.fixture
def at_step(monkeypatch):
    """Counts optimizer steps, and does something right after the n-th of this process."""
    once = Fit._train_step

    def install(n=None, do=None):
        done = []

        def step(self, *args):
            once(self, *args)
            done.append(type(self.model).__name__)
            if len(done) == n:
                do()

        monkeypatch.setattr(Fit, "_train_step", step)
        return done

    return install


class Killed(BaseException):
    """Stands for SIGKILL as far as a test within one process can."""


def kill():
    raise Killed


def train(settings, **chosen):
    pipeline.train(settings, **{"poolers": "max", "folds": "0"} | chosen)


def stored(root):
    """Bytes of all weights and tables, by name."""
    files = [*root.rglob("*.safetensors"), *root.rglob("fold*.parquet")]
    return {str(file.relative_to(root)): file.read_bytes() for file in sorted(files)}


def weights(folder):
    return load_file(folder / "model.safetensors")


def test_the_encoder_learns_is_kept_as_a_backbone_and_its_members_begin_there(whole, source):
    folder = whole / "models" / "toy" / "backbones" / NAME
    assert backbone.check(folder, 16) == backbone.check(source, 16)
    old, new = backbone.load(source), backbone.load(folder)
    for a, b in zip(old.encoder.parameters(), new.encoder.parameters(), strict=True):
        assert (a != b).any()
    assert torch.equal(old.own_pooler.dense.weight, new.own_pooler.dense.weight)
    fold = weights(whole / "models" / "toy" / MEMBER / "fold0")
    word = "embeddings.word_embeddings.weight"

    def apart(encoder):
        return (fold[f"encoder.{word}"] - encoder.get_parameter(word)).abs().max()

    assert apart(new.encoder) < apart(old.encoder) / 2


def test_the_card_tells_the_loss_on_texts_held_out_before_and_after(whole, path):
    card = open_store(config.load(path, [f"store={whole}"])).backbone(NAME).check()
    assert (card.rows.train, card.rows.held_out) == (30, 2)
    assert [epoch.number for epoch in card.epochs] == [1, 2]
    assert card.held_out_loss.after == card.epochs[-1].held_out_loss
    assert card.held_out_loss.before != card.held_out_loss.after
    assert card.inputs.mlm == MLM | {"mask": 0.15}


def test_a_second_run_trains_nothing_and_another_member_shares_the_backbone(
    finished, at_step, caplog
):
    settings, store = finished
    steps = at_step()
    before = stored(store.root)
    train(settings)
    assert steps == []
    with caplog.at_level("INFO", logger="poolblend"):
        train(settings, poolers="mean")
    assert set(steps) == {"TextModel"}
    assert stored(store.root).items() > before.items()
    cards = [store.fold(f"tiny-mlm-{pooler}-s42", 0).card() for pooler in ("mean", "max")]
    assert cards[0].inputs.backbone_sha256 == cards[1].inputs.backbone_sha256


def test_the_log_tells_both_losses(settings, caplog):
    with caplog.at_level("INFO", logger="poolblend"):
        train(settings("backbone.mlm.epochs=1"))
    assert "backbone tiny-mlm: loss on masked tokens of 2 held-out texts 3." in caplog.text
    assert " before, 3." in caplog.text


@pytest.mark.parametrize("step", [1, 6, STEPS + 1])
def test_a_killed_training_is_resumed_to_the_same_bytes(settings, whole, at_step, step):
    settings = settings("checkpoints.steps=1")
    steps = at_step(step, kill)
    with pytest.raises(Killed):
        train(settings)
    train(settings)
    store = open_store(settings)
    assert stored(store.root) == stored(whole)
    # A step is kept when it is done: the last one at the latest is done again.
    assert len([name for name in steps if name == "MaskedLanguageModel"]) <= STEPS + 1
    assert not [path for path in store.root.rglob("*") if "checkpoint" in path.name]


def test_what_is_left_by_a_process_killed_at_the_end_is_swept(finished, at_step):
    settings, store = finished
    files = store.backbone(NAME)
    inputs = files.card().inputs.as_json()
    files.checkpoints.save(3, {"w": torch.ones(2)}, checkpoint_card(inputs=inputs))
    steps = at_step()
    train(settings)
    assert steps == []
    assert len(files.checkpoints) == 0


def test_the_watch_stops_it_with_a_checkpoint(settings, at_step, monkeypatch):
    settings, is_up = settings(), []
    monkeypatch.setattr(
        "poolblend.jobs.watch.Watch.due", lambda self: Stopped("stopped", 0) if is_up else None
    )
    at_step(3, lambda: is_up.append(True))
    with pytest.raises(Stopped, match=rf"backbone {NAME} at step 3 of {STEPS}$"):
        train(settings)
    files = open_store(settings).backbone(NAME)
    assert files.checkpoints.newest().card.step == 3
    assert not files.folder.exists()


def test_no_label_is_looked_at(path, whole, tmp_path):
    shutil.copytree(path.parent / "data", tmp_path / "data")
    train_csv = tmp_path / "data" / "train.csv"
    table = pd.read_csv(train_csv)
    table["target"] = 1 - table["target"]
    table.to_csv(train_csv, index=False)
    places = [f"data.dir={tmp_path / 'data'}", f"store={tmp_path / 'store'}"]
    train(config.load(path, [*SETS, *places]))
    name = f"models/toy/backbones/{NAME}/model.safetensors"
    assert stored(tmp_path / "store")[name] == stored(whole)[name]


def test_another_text_makes_it_stale_another_label_does_not(finished, path, tmp_path, at_step):
    settings, store = finished
    shutil.copytree(path.parent / "data", tmp_path / "data")
    settings = settings.model_copy(
        update={"data": settings.data.model_copy(update={"dir": str(tmp_path / "data")})}
    )
    test_csv = tmp_path / "data" / "test.csv"
    test_csv.write_text(test_csv.read_text().replace("the", "a"))
    with pytest.raises(
        UserError,
        match=rf"^backbone {NAME} is stale: test_texts has changed \(1 more: train.py --check "
        r"lists them\). Train it again with "
        "--overwrite, or give the backbone another `name` to keep both$",
    ):
        train(settings)
    before = stored(store.root)
    train(settings, overwrite=True)
    after = stored(store.root)
    assert before.keys() == after.keys()
    assert not [name for name in before if before[name] == after[name]]


def test_stale_folds_are_refused_before_any_backbone_is_trained(
    finished, settings, source, at_step
):
    _, store = finished
    member = {"pooler": "mean", "backbone": {"source": str(source), "name": "plain"}}
    train(settings(f"members=[{member}]"), poolers="mean")
    changed = settings("backbone.name=new", f"members=[max, {member | {'max_length': 12}}]")
    steps = at_step()
    with pytest.raises(UserError, match="plain-mean-s42 fold 0 is stale: max_length was 16, is 12"):
        train(changed, poolers="all")
    assert steps == []
    assert store.backbone_names() == [NAME]


def test_a_damaged_backbone_is_refused_until_it_is_to_be_replaced(finished, whole):
    settings, store = finished
    weights = store.backbone(NAME).folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"#")
    with pytest.raises(UserError, match=f"{weights} is damaged: .*; train backbone {NAME} again"):
        train(settings)
    train(settings, overwrite=True)
    assert stored(store.root) == stored(whole)


def test_a_backbone_that_is_gone_is_made_again_and_its_folds_stay(finished, whole, at_step):
    settings, store = finished
    shutil.rmtree(store.backbones_folder)
    pipeline.check(settings)
    steps = at_step()
    train(settings)
    assert set(steps) == {"MaskedLanguageModel"}
    assert stored(store.root) == stored(whole)


def test_the_check_names_what_is_stale_and_mends_it(finished, settings, capsys):
    pipeline.check(finished[0])
    assert "backbones    1 whole" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"2 stale of 3 artefacts; .* python train.py --overwrite "):
        pipeline.check(settings("backbone.mlm.lr=0.02"))
    out = " ".join(capsys.readouterr().out.split())
    assert f"stale: backbone {NAME}: mlm.lr was 0.01, is 0.02" in out
    assert f"stale: {MEMBER} fold 0: backbone" in out


def test_two_backbones_of_one_name_are_refused(path, source, tmp_path):
    other = {"source": str(source), "mlm": MLM | {"epochs": 1}, "name": "TINY-mlm"}
    member = {"pooler": "max", "backbone": other, "tag": "other"}
    settings = config.load(path, [*SETS, f"store={tmp_path}", f"members=[max, {member}]"])
    with pytest.raises(UserError, match="two backbones with other settings are named TINY-mlm; gi"):
        train(settings)


def test_a_backbone_that_cannot_guess_is_refused_before_anything_is_read(toy):
    settings = config.load(toy(), ["backbone.mlm.max_length=16"])
    line = r"^member tiny-mlm-max-s42: backbone\.mlm: the tokenizer in .* has no mask token"
    with pytest.raises(UserError, match=line):
        train(settings)
    assert not open_store(settings).root.exists()


def test_one_that_another_process_trains_is_waited_for(
    settings, whole, at_step, monkeypatch, caplog
):
    settings = settings()
    store, steps = open_store(settings), at_step()
    lock = store.backbone(NAME).lock
    lock.acquire()

    def other(_):
        shutil.copytree(whole / "models/toy/backbones" / NAME, store.backbone(NAME).folder)
        lock.release()

    monkeypatch.setattr("poolblend.jobs.runners.inline.time.sleep", other)
    with caplog.at_level("INFO", logger="poolblend"):
        train(settings)
    assert f"which another process is doing (backbone {NAME} by process " in caplog.text
    assert set(steps) == {"TextModel"}
    assert stored(store.root) == stored(whole)


def test_a_loss_that_is_not_finite_names_the_key_to_lower(settings):
    with pytest.raises(UserError, match=f"{NAME}: .* in epoch 1; lower backbone.mlm.lr[,;] "):
        train(settings("backbone.mlm.lr=1e30", "backbone.mlm.batch_size=4"))


def test_a_fold_whose_backbone_was_trained_again_with_other_results_is_stale(finished):
    settings, store = finished
    files = store.backbone(NAME)

    class Part:
        """The backbone's files, of which the weights differ in one byte."""

        def save_pretrained(self, folder):
            shutil.copytree(content, folder, dirs_exist_ok=True)
            path = Path(folder) / "model.safetensors"
            path.write_bytes(path.read_bytes()[:-1] + b"#")

    card = files.card()
    content = shutil.copytree(files.folder, store.root / "content")
    (content / "card.json").unlink()
    files.save(parts=[Part()], make_card=lambda hashes: card.model_copy(update={"files": hashes}))
    with pytest.raises(UserError, match=f"{MEMBER} fold 0 is stale: backbone has changed"):
        train(settings)
    train(settings, overwrite=True)
    assert store.fold(MEMBER, 0).card().backbone == files.card().hashes()

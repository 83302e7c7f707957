import subprocess
import sys

import pytest

from poolblend import config
from poolblend.errors import UserError
from poolblend.modeling.options import MINILM, MINILM_SHA256


def names(settings):
    return [member.name for member in settings.resolve_members()]


def test_defaults_then_file_then_sets(write):
    settings = config.load(
        write("task: multiclass\nmetric: accuracy\ntrain: {epochs: 3}"), ["train.lr=1e-4"]
    )
    assert (settings.task, settings.train.epochs, settings.train.lr) == ("multiclass", 3, 1e-4)
    assert settings.train.batch_size == 32
    assert settings.run == "mine"


def test_without_a_file_the_quickstart_is_meant():
    settings = config.load()
    assert settings.run == "quickstart"
    assert settings.data.demo
    assert (settings.backbone.source, settings.backbone.sha256) == (MINILM, MINILM_SHA256)


@pytest.mark.parametrize(
    "path", sorted((config.ROOT / "configs").glob("*.yaml")), ids=lambda p: p.stem
)
def test_every_config_shipped_is_valid_and_short(path):
    settings = config.load(path)
    assert settings.run == path.stem
    assert len(names(settings)) >= 2
    assert len(path.read_text(encoding="utf-8").splitlines()) < 25


@pytest.mark.parametrize(
    ("sets", "line"),
    [
        (
            ["train.epoch=3"],
            "unknown key 'train.epoch' .*did you mean 'train.epochs'.*known: train.acc",
        ),
        (["precision=fp32"], "unknown key 'precision' .*did you mean 'train.precision'"),
        (["tran.epochs=3"], "unknown key 'tran' .*did you mean 'train'"),
        (["train.epochs=x"], r"train.epochs: 'x': input should be a valid integer \(.*or --set\)"),
        (["train.epochs=0"], "train.epochs: 0: input should be greater than or equal to 1"),
        (["members=[maxx]"], "unknown pooler 'maxx'; did you mean 'max'"),
        (["members=[tfidff]"], "unknown pooler 'tfidff'; did you mean 'tfidf'"),
        (
            ["members=[{poler: max}]"],
            "members.0.pooler: this key is required|unknown key 'members.poler'",
        ),
        (
            ["members=[{pooler: max, train: {lrr: 1}}]"],
            "unknown key 'train.lrr' .*did you mean 'train.lr'",
        ),
        (["members=[max, max]"], "two members are named minilm-max-s42: give one of them a `tag`"),
        (["metric=f2"], "unknown metric 'f2'; did you mean 'f1'"),
        (
            ["folds.strategy=stratifed"],
            "unknown fold strategy 'stratifed'; did you mean 'stratified'",
        ),
        (["blend.fitter=optna"], "unknown blender 'optna'; did you mean 'optuna'.*auto"),
        (["seed=-1"], "seed: -1: input should be greater than or equal to 0"),
        (["head.norm=batch", "train.batch_size=1"], "head.norm=batch needs a train.batch_size"),
        (["run=../up"], "run: '../up': becomes part of a file name"),
        (["data.text=[a, a]"], "data.text: must name at least one column, each once"),
        (["members=[]"], "members: list should have at least 1 item"),
        (["data.target=text"], "column 'text' is named twice among id, text and target"),
        ([f"run={'x' * 101}"], "use up to 100 letters"),
        (["backbone=3"], "backbone: 3: expected `key: value` pairs"),
        (["seeds=[]"], "seeds: list should have at least 1 item"),
        (
            ["data.joins=[{train: a.csv, on: b, tets: c}]"],
            "unknown key 'data.joins.tets' .*did you mean 'data.joins.test'",
        ),
        (
            ["blend.weights=per_output"],
            "blend.weights=per_output does nothing in a multiclass task of one target; leave it",
        ),
        (
            ["task=regression", "metric=rmse", "submission=labels"],
            "submission=labels does nothing in a regression task",
        ),
        (
            ["submission=label"],
            "submission.values: 'label': input should be 'auto', 'labels' or 'probabilities'",
        ),
        (["submission.id=test"], "unknown key 'submission.id' .*did you mean 'submission.ids'"),
        (["submission.ids=train"], "submission.ids: 'train': input should be 'auto', 'sample' or"),
        (["submission.top=0"], "submission.top: 0: input should be greater than or equal to 1"),
        (["submission.columns={a: true}"], "submission.columns.a"),
        (["data.positive=a"], "data.positive does nothing in a multiclass task; leave it out"),
        (
            ["folds.rare=refuse", "folds.strategy=plain"],
            "folds.rare does nothing in a multiclass task with folds.strategy=plain; leave it out",
        ),
        (
            ["folds.rare=refuse", "task=multilabel", "metric=f1_macro"],
            "folds.rare does nothing in a multilabel task with folds.strategy=auto; leave it out",
        ),
        (["folds.bins=5"], "folds.bins does nothing in a multiclass task with folds.strategy=auto"),
        (
            ["task=regression", "metric=rmse", "folds.strategy=plain", "folds.bins=5"],
            "folds.bins does nothing in a regression task with folds.strategy=plain; leave it out",
        ),
    ],
)
def test_a_wrong_setting_is_refused_in_one_line(sets, line):
    with pytest.raises(UserError, match=line) as caught:
        config.load(None, sets)
    assert "\n" not in str(caught.value)


def test_what_is_submitted_may_be_one_word(write):
    file = write("submission: labels")
    assert config.load(file).submission.values == "labels"
    settings = config.load(file, ["submission.ids=test", 'submission.columns={"0": 0, x: copy}'])
    assert settings.submission.values == "labels"
    assert settings.submission.ids == "test"
    assert settings.submission.columns == {"0": 0, "x": "copy"}
    assert config.load(file, ["submission=probabilities"]).submission.values == "probabilities"
    assert config.load(write("submission:")).submission == config.load().submission
    assert config.Config(**settings.model_dump()) == settings


RUN = "backbone={source: org/large, sha256: %s}" % ("0" * 64)


@pytest.mark.parametrize(
    ("run", "own", "name", "sha256"),
    [
        (RUN, "{mlm: {epochs: 1}}", "large-mlm", True),
        (RUN, "{name: other, mlm: {epochs: 1}}", "other", True),
        (RUN, "{source: org/small}", "small", False),
        (RUN, "org/small", "small", False),
        ("backbone={source: org/large, mlm: {epochs: 1}}", "{mlm: }", "large", False),
        ("backbone={source: org/large, mlm: {epochs: 1}}", "{}", "large-mlm", False),
    ],
)
def test_a_members_backbone_is_the_runs_but_for_what_it_says(run, own, name, sha256):
    settings = config.load(None, [run, f"members=[{{pooler: max, backbone: {own}}}]"])
    for again in (settings, config.Config(**settings.model_dump())):
        (member,) = again.resolve_members()
        assert member.backbone.name == name
        assert member.backbone.source == ("org/small" if "small" in name else "org/large")
        assert bool(member.backbone.sha256) == sha256
        assert bool(member.backbone.mlm) == ("mlm" in member.name or name == "other")


def test_a_pooler_beside_the_members_is_held_against_the_runs_keys():
    members = "members=[{pooler: mean, mask: attention}]"
    settings = config.load(None, ["windows.overlap=3", "mask=none", members])
    with pytest.raises(UserError, match="minilm-max-s42: windows have no padding to count"):
        settings.resolve_members(["max"])


def test_backbone_keys_may_be_set_one_by_one():
    renamed = config.load(None, ["backbone.name=tiny"]).backbone
    assert (renamed.source, renamed.sha256, renamed.name) == (MINILM, MINILM_SHA256, "tiny")
    moved = config.load(None, ["backbone=some/where", "backbone.name=x"]).backbone
    assert (moved.source, moved.sha256, moved.name) == ("some/where", None, "x")


def test_each_member_derives_a_seed_of_its_own_unless_seeds_are_listed():
    members = config.load(None, ["members=[mean, max]"]).resolve_members()
    assert [m.name for m in members] == ["minilm-mean-s42", "minilm-max-s42"]
    assert len({m.seed for m in members}) == 2
    again = config.load(None, ["members=[max, mean]"]).resolve_members()
    assert {m.name: m.seed for m in members} == {m.name: m.seed for m in again}
    listed = config.load(None, ["members=[mean, max]", "seeds=[0, 1]"]).resolve_members()
    assert [(m.name[-8:], m.seed) for m in listed] == [
        ("-mean-s0", 0), ("-mean-s1", 1), ("m-max-s0", 0), ("m-max-s1", 1),
    ]  # fmt: skip


def test_another_run_seed_makes_other_members_on_the_same_folds():
    one, other = config.load(seed=1), config.load(seed=2)
    assert not set(names(one)) & set(names(other))
    assert one.folds == other.folds


def test_a_member_overrides_only_what_it_says():
    spec = (
        "members=[{pooler: mean_kmax, pooler_args: {k: 2}, tag: k2, max_length: 32, "
        "train: {lr: 0.1}, head: {norm: layer}}]"
    )
    (member,) = config.load(None, [spec, "train.epochs=7", "head.dropout=0.3"]).resolve_members()
    assert member.name == "minilm-mean_kmax-k2-s42"
    assert (member.pooler_args, member.max_length) == ({"k": 2}, 32)
    assert (member.train.lr, member.train.epochs) == (0.1, 7)
    assert (member.head.norm, member.head.dropout) == ("layer", 0.3)


def test_a_pooler_not_listed_becomes_a_member_with_the_runs_settings():
    settings = config.load(None, ["members=[{pooler: max, tag: a}, {pooler: max, tag: b}, mean]"])
    assert [m.name for m in settings.resolve_members(["max", "gem"])] == [
        "minilm-max-a-s42",
        "minilm-max-b-s42",
        "minilm-gem-s42",
    ]


def test_relative_paths_start_at_the_projects_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert config.load(None, ["data.dir=input/x"]).data_dir == config.ROOT / "input" / "x"
    assert config.load(None, [f"data.dir={tmp_path}"]).data_dir == tmp_path
    assert config.load("configs/quickstart.yaml").run == "quickstart"


@pytest.mark.parametrize(
    "member",
    [
        "{pooler: cls, mask: content}",
        "{pooler: last, mask: none}",
        "{pooler: pooler_output, mask: content}",
        "{pooler: concat_layers, mask: content}",
        "{pooler: weighted_layer, pooler_args: {tokens: cls}, mask: content}",
    ],
)
def test_a_mask_that_its_own_pooler_does_not_read_is_refused(member):
    with pytest.raises(UserError, match=r"mask=\w+ does nothing with pooler \w+, which reads"):
        config.load(None, [f"members=[mean, {member}]"])
    config.load(
        None, [f"members=[{member.replace('content', 'attention')}]".replace("none", "attention")]
    )


def test_a_mask_of_the_run_is_refused_where_no_member_reads_it():
    with pytest.raises(UserError, match=r"mask=content does nothing .*\(cls, last\)"):
        config.load(None, ["mask=content", "members=[cls, last]"])
    config.load(None, ["mask=content", "members=[cls, mean]"])
    config.load(None, ["members=[cls, last]"])
    config.load(None, ["mask=attention", "members=[cls]"])


def test_the_config_and_the_options_of_all_rooms_are_imported_without_torch():
    probe = (
        f"import sys; sys.path.insert(0, {str(config.ROOT / 'src')!r})\n"
        "import poolblend.config\n"
        "heavy = {'torch', 'transformers', 'pandas', 'sklearn', 'optuna'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

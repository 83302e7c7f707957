"""Tables as folders of parquet files: the run is that of the CSVs; a changed part is noticed."""

import pandas as pd
import pytest

from poolblend import config, pipeline
from poolblend.errors import UserError
from poolblend.loading.competition import table_sha256


def test_a_run_on_folders_of_parquet_files_is_that_of_the_csvs(toy):
    path = toy(n=24, n_test=8, folds={"n": 2}, members=["mean"], metric="log_loss")
    of_csvs = config.load(path, ["run=csv"])
    data = of_csvs.data_dir
    for name in ("train", "test", "sample_submission"):
        (data / name).mkdir()
        table = pd.read_csv(data / f"{name}.csv")
        for k, rows in enumerate((table[:5], table[5:])):
            rows.to_parquet(data / name / f"part-{k}.parquet", index=False)
    names = [f"data.{name}={name}" for name in ("train", "test", "sample_submission")]
    of_folders = config.load(path, ["run=folders", *names])
    submissions = []
    for settings in (of_csvs, of_folders):
        pipeline.train(settings)
        pipeline.blend(settings)
        submissions.append(pipeline.infer(settings).read_bytes())
    assert submissions[0] == submissions[1]
    (data / "train" / "_SUCCESS").touch()
    pipeline.train(of_folders)
    part = data / "train" / "part-1.parquet"
    changed = pd.read_parquet(part)
    changed.loc[0, "text"] += " changed"
    changed.to_parquet(part, index=False)
    with pytest.raises(UserError, match="fold 0 is stale: train has changed"):
        pipeline.train(of_folders)


def test_the_hash_of_a_folder_is_one_over_its_files_and_their_names(tmp_path):
    def written(**parts):
        for old in tmp_path.iterdir():
            old.unlink()
        for name, content in parts.items():
            (tmp_path / name.replace("_parquet", ".parquet")).write_bytes(content)
        return table_sha256(tmp_path)

    first = written(a_parquet=b"1", b_parquet=b"2")
    assert written(b_parquet=b"2", a_parquet=b"1", _SUCCESS=b"") == first
    others = [
        written(a_parquet=b"2", b_parquet=b"1"),
        written(a_parquet=b"1", c_parquet=b"2"),
        written(a_parquet=b"1"),
        written(a_parquet=b"12", b_parquet=b""),
    ]
    assert len({first, *others}) == 5

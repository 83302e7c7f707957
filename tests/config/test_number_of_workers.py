"""--workers is auto or a number from 1; --on names a cluster."""

import pytest

from poolblend.config import Cluster, parse_workers
from poolblend.errors import UserError


@pytest.mark.parametrize(("text", "found"), [("auto", "auto"), (" 2 ", 2), ("AUTO", "auto")])
def test_workers_are_auto_or_a_number(text, found):
    assert parse_workers(text) == found


@pytest.mark.parametrize("text", ["0", "-1", "two", "", "1.5", "٢", "1e3", "100000"])
def test_any_other_number_of_workers_is_refused(text):
    with pytest.raises(UserError, match="--workers .*: expected auto or a number of processes"):
        parse_workers(text)


@pytest.mark.parametrize("on", ["ray", "auto", "ray://10.0.0.1:10001"])
def test_on_names_a_cluster_and_workers_limit_its_jobs(on):
    assert parse_workers(None, on) == Cluster(on)
    assert parse_workers("auto", on) == Cluster(on)
    assert parse_workers("8", on) == Cluster(on, most=8)


def test_without_flags_one_process_does_the_work():
    assert parse_workers(None) == 1


@pytest.mark.parametrize("on", ["", "slurm", "ray://host", "http://host:1", "ray://a b:1"])
def test_any_other_cluster_is_refused(on):
    with pytest.raises(UserError, match="--on .*: expected ray, ray://host:port or auto"):
        parse_workers(None, on)

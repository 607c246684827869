"""Names of jobs, and the newest log."""

import os

from common.cluster import submit_record
from common.core import files


def test_a_name_is_readable_and_unique(tmp_path):
    one = submit_record.job_name(tmp_path / "toy" / "minilm lora" / "seed-1")
    assert one.startswith("toy-minilm_lora-seed-1-") and len(one.rpartition("-")[2]) == 8
    assert one == submit_record.job_name(tmp_path / "toy" / "x" / ".." / "minilm lora" / "seed-1")
    assert one != submit_record.job_name(tmp_path / "more" / "toy" / "minilm lora" / "seed-1")


def test_a_name_that_the_cluster_can_hold(tmp_path):
    name = submit_record.job_name(tmp_path / ("x" * 200) / "é|%j" / "-seed")
    assert len(name) <= 89 and name.isascii() and not set("|%") & set(name) and not name.startswith("-")


def test_a_link_to_a_folder_is_that_folder(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert submit_record.job_name(tmp_path / "link") == submit_record.job_name(tmp_path / "real")


def test_what_was_never_submitted(tmp_path):
    assert submit_record.read(tmp_path) is None
    assert submit_record.newest_log(tmp_path) is None
    (tmp_path / submit_record.SUBMIT).write_text("{cut")
    assert submit_record.read(tmp_path) is None


def test_the_newest_log(tmp_path):
    for number, name in ((2, "103.log"), (10, "109.log"), (10, "110.log")):
        files.write_text(tmp_path / "slurm" / str(number) / name, name)
    (tmp_path / "slurm" / "11").mkdir()
    files.write_text(tmp_path / "slurm" / "old" / "1.log", "kept by hand")
    os.utime(tmp_path / "slurm" / "10" / "109.log", (1, 1))
    assert submit_record.newest_log(tmp_path).name == "110.log"


def test_the_last_lines(tmp_path):
    log = tmp_path / "x.log"
    log.write_bytes(b"one\n\n two \r\n\xff\nbar 1\rbar 2\n\n")
    assert submit_record.last_lines(log, 3) == ["�", "bar 1", "bar 2"]
    assert len(submit_record.last_lines(log, 99)) == 5
    log.write_text("x" * 100_000 + "\nend\n")
    assert submit_record.last_lines(log, 1) == ["end"]

"""The variants of a sweep as command lines, and one process a variant."""

import shlex
import signal
import subprocess
import sys

import pytest
from conftest import ROOT
from waiting import HANG_S

from common.cli import options, sweeps
from common.cli.target import resolve_target
from common.config import catalog
from common.config.run_request import RunRequest
from common.core import yaml_io
from common.core.errors import ConfigError

JOB = "minilm-emotion-lora"


def request(*overrides, job=JOB):
    return RunRequest(job, overrides=overrides)


def names(wanted):
    return [resolve_target(variant).variant for variant in sweeps.variants(wanted)]


def test_a_job_without_a_sweep_is_itself():
    wanted = request("method.r=4", job="minilm-lora")
    assert sweeps.variants(wanted) == [wanted]
    assert sweeps.single_variant(wanted) is wanted


def test_variants_in_the_order_of_the_sweep():
    found = sweeps.variants(request())
    assert [sweeps.label(variant) for variant in found] == [
        f"method.r={r} method.alpha={scale * r}" for r in (1, 4, 8, 16) for scale in (1, 2)
    ]
    assert names(request())[:2] == ["method.alpha=1,method.r=1", "method.alpha=2,method.r=1"]


def test_every_label_selects_its_variant():
    for variant in sweeps.variants(request("training.epochs=2")):
        again = request(sweeps.label(variant))
        assert names(again) == [resolve_target(variant).variant]
        assert resolve_target(again).config("d") == resolve_target(variant).config("d")
        words = shlex.split(variant.command("train"))
        assert words == ["make", "train", f"MODEL={JOB}", f"SET={sweeps.label(variant)}"]


def test_set_applies_on_top_of_every_variant():
    assert len(names(request("training.epochs=2"))) == 8
    assert all("training.epochs=2" in name for name in names(request("training.epochs=2")))
    ranks = [",method.r=1", ",method.r=4", "", ",method.r=16"]  # 8 is the job's own
    assert names(request("method.alpha=4")) == [f"method.alpha=4{rank}" for rank in ranks]


def test_set_of_all_keys_is_one_variant_in_the_sweep_or_not():
    for text in ("method.r=4 method.alpha=8", "method.r=3 method.alpha=5", "method={name: full}"):
        assert names(request(text)) == [catalog.load_job(JOB, yaml_io.split_overrides([text]))[1]]


def test_entries_with_different_keys_can_all_be_selected(swept):
    job = swept("sweep: [{method.r: 4}, {method.r: 4, method.lora_alpha: 4}, {method.name: full}]")
    found = sweeps.variants(request(job=job))
    assert len(found) == 3
    for variant in found:
        assert names(request(sweeps.label(variant), job=job)) == [resolve_target(variant).variant]


def test_set_that_does_not_go_with_the_sweep():
    with pytest.raises(ConfigError, match=r"unknown key 'method.alpha'"):
        sweeps.variants(request("method.name=adapters method.r=3"))


def test_need_one_lists_what_to_type():
    with pytest.raises(ConfigError) as raised:
        sweeps.single_variant(request("training.epochs=2"))
    message = str(raised.value)
    assert f"MODEL={JOB} is a sweep of 8 variants" in message
    assert "\n  SET='method.r=4 method.alpha=8 training.epochs=2'" in message


# --- one process a variant -------------------------------------------------------------------------------------------

SCRIPT = """import sys
_, job, *words = sys.argv[1:]
first = words.index("--set") + 1
print("ran", words[first:], flush=True)
sys.exit({codes}.get(" ".join(words[first:]), 0))
"""


def run_each(tmp_path, **codes):
    script = tmp_path / "script.py"
    table = {f"method.r={r} method.alpha={2 * r}": codes[f"r{r}"] for r in (1, 4, 8, 16) if f"r{r}" in codes}
    script.write_text(SCRIPT.format(codes=table))
    return sweeps.run_each(
        str(script), ["--model", JOB, "--set", "x=1", "--set", "y=2"], sweeps.variants(request())[1::2], "train"
    )


def test_all_run_in_order(tmp_path, capfd):
    assert run_each(tmp_path) == 0
    out, err = capfd.readouterr()
    assert err == ""
    assert out.splitlines()[:4] == [
        "[1/4] method.r=1 method.alpha=2",
        "ran ['method.r=1', 'method.alpha=2']",
        "[2/4] method.r=4 method.alpha=8",
        "ran ['method.r=4', 'method.alpha=8']",
    ]


def test_a_failure_keeps_none_from_running(tmp_path, capfd):
    assert run_each(tmp_path, r4=4, r16=-9) == 4
    out, err = capfd.readouterr()
    assert out.count("ran ") == 4
    assert "error: 2 of 4 variants failed:" in err
    assert f"  make train MODEL={JOB} SET='method.r=4 method.alpha=8'  (exit code 4)" in err


def test_an_interrupt_stops_at_once(tmp_path, capfd):
    assert run_each(tmp_path, r1=3, r4=75) == 75
    assert capfd.readouterr()[0].count("ran ") == 2


def test_a_variant_that_was_killed_has_a_shells_code(tmp_path):
    script = tmp_path / "script.py"
    script.write_text("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    assert options.run([str(script)]) == 128 + signal.SIGKILL


def test_a_signal_reaches_the_variant_and_stops_the_sweep(tmp_path):
    """The variant saves and ends by itself, here even with success; no further one starts."""
    script = tmp_path / "script.py"
    script.write_text(
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: (time.sleep(0.3), print('saved', flush=True), sys.exit(0)))\n"
        "signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})\n"  # as `common.core.signals.keep`
        "print('ready', flush=True)\ntime.sleep(60)\n"
    )
    code = (
        f"import sys; sys.path[:0] = {[str(ROOT / 'scripts')]!r}\n"
        "from common.cli import sweeps\nfrom common.cli.main import guard\n"
        "from common.config.run_request import RunRequest\n"
        f"found = sweeps.variants(RunRequest({JOB!r}))\n"
        f"sys.exit(guard(lambda argv: sweeps.run_each({str(script)!r}, argv, found, 'train'), []))"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline().startswith("[1/8]")
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=HANG_S)[0] == "saved\n"
    assert process.returncode == 75

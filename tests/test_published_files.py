"""The published stance experiments on their own spreadsheets, with tiny random models: every command succeeds."""

import json

import pytest
from conftest import SHARED

CMV = SHARED / "cmv-stance"
pytestmark = pytest.mark.skipif(not CMV.is_dir(), reason="../shared/data/cmv-stance is not here")


@pytest.mark.slow
@pytest.mark.parametrize(("job", "baseline"), [("mistral-7b-v0.1", "untuned"), ("gemma-2-9b-it", "zero-shot")])
def test_the_chain_on_their_own_files(run_script, tmp_path, job, baseline):
    from common.config import catalog
    from common.core import files
    from common.model.load import quiet_libraries
    from common.smoke.tiny_models import make_tiny_model

    quiet_libraries()
    tiny = make_tiny_model(catalog.load_job(job)[0].model, tmp_path / "model")
    # The tiny tokenizer makes many tokens of a text, and many CPUs multiply bfloat16 slowly: it would take minutes.
    fast = ["max_length=384", "precision=float32", "dtype=float32"]
    words = ["--model", job, "--set", f'model="{tiny}"', "training.epochs=1", *fast]
    outputs = ["--outputs", str(tmp_path / "outputs")]
    rows = ["--data-dir", str(CMV)]
    code, out, err = run_script("check", *words, *outputs, *rows, "--json")
    assert code == 0, err
    assert [part["n"] for part in json.loads(out)["splits"].values()] == [50, 50, 50]
    for script, more in (("train", []), ("evaluate", ["--split", "validation"]), ("baseline", [])):
        code, _, err = run_script(script, *words, *outputs, *rows, *more)
        assert code == 0, f"{script}: {err}"
    labelled = tmp_path / "labelled.xlsx"
    code, out, err = run_script(
        "predict", *words, *outputs, "--input", str(CMV / "test.xlsx"), "--output", str(labelled)
    )
    assert code == 0 and "50 rows predicted" in out, err
    found = {file.parent.name: files.read_json(file) for file in (tmp_path / "outputs").rglob("metrics.json")}
    assert set(found) == {"seed-1", f"baseline-{baseline}"}
    assert all(document["test_n"] == 50 for document in found.values())
    assert found["seed-1"]["test_f1_micro"] == found["seed-1"]["test_accuracy"]

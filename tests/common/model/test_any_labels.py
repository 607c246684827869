"""Any labels survive the way from the YAML over a saved model and its predictions to the tables."""

import html
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from any_labels import LABELS, as_read, usable
from hypothesis import HealthCheck, given, settings
from toy_runs import PLAIN

from common.config.dataset import Dataset
from common.core import files, yaml_io
from common.core.schema import validate
from common.data.rows import Row
from common.data.table_reader import read_table
from common.data.table_writer import write_table
from common.evaluation import inference
from common.model import saved_model
from common.model.build import build_head
from common.predict.columns import prediction_columns
from common.report import readme_tables, results
from common.runs import run_folder
from common.runs.run_config import RunConfig


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(labels=LABELS.filter(usable))
def test_from_yaml_over_a_saved_model_to_the_tables(tiny_job, labels):
    document = yaml_io.parse(yaml_io.dump(PLAIN | {"labels": labels}), "toy.yaml")
    toy, job = validate(Dataset, document, "toy.yaml"), tiny_job("minilm-lora")
    rows = [Row(str(number), ("A", f"text {number}"), number % len(labels)) for number in range(2 * len(labels))]
    with tempfile.TemporaryDirectory() as outputs:
        head, model = build_head(job, toy), Path(outputs) / "model"
        saved_model.save(head, job, toy, model)
        again = saved_model.load(job, toy, model)
        scores = inference.score(head, rows, 512, "score")
        assert np.array_equal(inference.score(again, rows, 512, "score"), scores)

        config = RunConfig("minilm-lora", "toy", "", 1, job, toy, "d" * 64)
        folder = run_folder.folder(Path(outputs), "toy", "minilm-lora", "", "seed-1")
        folder.mkdir(parents=True)
        run_folder.create_run(folder, config, "make train")
        inference.score_split(folder, run_folder.load_run_config(folder), "test", rows, again, {})
        records = files.read_jsonl(folder / "predictions-test.jsonl")
        assert [record["gold"] for record in records] == 2 * as_read(labels)
        assert [record["predicted"] for record in records] == [as_read(labels)[place] for place in scores.argmax(1)]
        header, _ = readme_tables.errors_table(results.load(Path(outputs)))
        assert [html.unescape(cell) for cell in header[1:-1]] == [str(label) for label in as_read(labels)]

        added = pd.DataFrame(prediction_columns(scores, toy.labels), dtype=object)
        write_table(Path(outputs) / "predicted.csv", added)
        found = read_table(Path(outputs) / "predicted.csv")
        assert list(found.columns) == ["predicted", *(f"probability_{label}" for label in as_read(labels))]
        assert found["predicted"].tolist() == [str(record["predicted"]) for record in records]

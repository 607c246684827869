"""The files of INPUT=: which keys they obey, and files that are something else than their names say."""

import json

import pytest
from toy_runs import dataset

from common.core.errors import DataError
from common.predict import create_plan
from common.predict.inputs import reading_input

RECORDS = [{"claim": "A", "sentence": "one"}, {"claim": "A", "sentence": "two", "note": 1}]


def test_keys_of_the_dataset_are_not_advised_for_an_input(tmp_path):
    (tmp_path / "a.csv").write_text("claim,sentence\na,b,c\n")
    with pytest.raises(DataError, match=r"row 2 has 3 cells.*not for INPUT=: save it as csv"):
        create_plan._survey([tmp_path / "a.csv"], dataset())
    with pytest.raises(DataError) as raised, reading_input():
        raise DataError("something else")
    assert str(raised.value) == "something else"


@pytest.mark.parametrize(("name", "is_lines"), [("a.json", True), ("a.jsonl", False), ("a.jsonl", True)])
def test_json_and_jsonl_under_each_others_names(tmp_path, name, is_lines):
    text = "\n".join(map(json.dumps, RECORDS)) if is_lines else json.dumps(RECORDS)
    (tmp_path / name).write_text(text)
    assert create_plan._survey([tmp_path / name], dataset()) == ([2], ["claim", "sentence", "note"])

"""A base whose weights are not safetensors is refused before training, without a download."""

import types

import pytest

from common.core.errors import ModelError
from common.hub import download
from common.hub.locate import Base


@pytest.mark.parametrize(
    ("files", "refused"),
    [
        (["config.json", "pytorch_model.bin"], True),
        (["config.json", "pytorch_model-00001-of-00002.bin", "pytorch_model.bin.index.json"], True),
        (["config.json", "tf_model.h5", "training_args.bin"], True),
        (["config.json", "model.safetensors", "pytorch_model.bin"], False),
        (["config.json", "tokenizer.json", "training_args.bin"], False),  # no weights at all: another error
    ],
)
def test_in_a_folder_and_on_the_hub(tmp_path, monkeypatch, files, refused):
    for name in files:
        (tmp_path / name).write_text("{}")
    siblings = [types.SimpleNamespace(rfilename=name) for name in files]
    hub = types.SimpleNamespace(model_info=lambda *_, **__: types.SimpleNamespace(siblings=siblings))
    monkeypatch.setattr(download, "HfApi", lambda: hub)
    monkeypatch.setattr(download.presence, "find_missing_model", lambda base: "it is not in this machine's cache")
    monkeypatch.setattr(download.constants, "is_offline_mode", lambda: False)
    for base in (Base(str(tmp_path), None), Base("lab/pickled", "main")):
        if refused:
            with pytest.raises(ModelError, match=r"no weights as safetensors.*[cC]onvert"):
                download.check_weights(base)
        else:
            assert download.check_weights(base) == ("model.safetensors" in files)


def test_without_an_answer_nothing_is_refused_and_nothing_known(monkeypatch):
    def fail(*_, **__):
        raise OSError("no route")

    monkeypatch.setattr(download.presence, "find_missing_model", lambda base: "it is not in this machine's cache")
    monkeypatch.setattr(download, "HfApi", lambda: types.SimpleNamespace(model_info=fail))
    for offline in (True, False):
        monkeypatch.setattr(download.constants, "is_offline_mode", lambda offline=offline: offline)
        assert download.check_weights(Base("lab/pickled", "main")) is None

"""Load what predicts: a saved model of a run, an adapter that peft saved elsewhere, or an export of any format."""

from pathlib import Path

from common.config.dataset import Dataset
from common.config.job import Job
from common.core.errors import ModelError
from common.core.files import read_json
from common.hub.locate import SAVED
from common.model import onnx_head, peft_adapter, saved_model
from common.model.heads import Head
from common.runs.exported import ONNX, PEFT, check_files, export_format, load_export_config
from common.runs.run_config import job_of


def load(job: Job, dataset: Dataset, folder: Path, is_adapter: bool) -> Head:
    """Load a model.

    Args:
        job: of the run, of the export (`load_export_config`, which checks its files), or the job whose base gets the
            adapter.
        dataset: with its labels.
        folder: a run's `model/`, a folder that peft's save_pretrained wrote, or an exported folder.
        is_adapter: whether the folder was given as ADAPTER=, so that its base must be the job's.

    Raises:
        ModelError: the folder is incomplete or has changed, or does not fit the job or the labels.
    """
    kind = export_format(folder)
    if kind is None:
        return (peft_adapter.load_adapter if is_adapter else saved_model.load)(job, dataset, folder)
    about = read_json(folder / SAVED)
    if is_adapter:
        check_files(folder)
        if (folder / saved_model.ADAPTER).is_file():
            return peft_adapter.load_adapter(job, dataset, folder)
        peft_adapter.check_own_adapter(job, about, folder)
        # Whole models and graphs compute as they were exported.
        job = job_of(load_export_config(folder)).model_copy(update={"model": job.model, "revision": job.revision})
    elif kind == PEFT and about["base"]["hub"] is None and not job.model.startswith("package:"):
        raise ModelError(
            f"{folder}: holds only what training changed, and its base '{job.model}' is a local folder. Predict with "
            f"a job of that base: MODEL=<job> ADAPTER={folder}"
        )
    if kind == ONNX:
        return onnx_head.load(job, dataset, folder)
    return saved_model.load(job, dataset, folder)

"""`RunRequest`, the runs that a command line asks for: their job and settings, their rows, their folders.

    request = RunRequest("minilm-lora", overrides=("method.r=4",), seed=2)
    request.command("train")                             # make train MODEL=minilm-lora SET=method.r=4 SEED=2
    dataclasses.replace(request, seed=3)                 # the same run with another seed

`common.cli.options.parse` makes a request from argv, `common.cli.target.resolve_target` reads the YAML files it names.
"""

import dataclasses
import shlex
from pathlib import Path
from typing import Any

from common.config import catalog
from common.core import yaml_io

OUTPUTS = catalog.ROOT / "outputs"
CLASSICAL_BASELINES = ("majority", "tfidf")  # of a dataset; they need no model
FEW_SHOT, EMBEDDING = "few-shot", "embedding"
MODEL_BASELINES = {  # of a job, by its head; the first is the default
    "classification": ("untuned", EMBEDDING),
    "prompt": ("zero-shot", FEW_SHOT, EMBEDDING),
}
BASELINES = tuple(
    dict.fromkeys((*CLASSICAL_BASELINES, *(name for names in MODEL_BASELINES.values() for name in names)))
)


@dataclasses.dataclass(frozen=True)
class RunRequest:
    """Which run a command line means.

    Attributes:
        model: the job, a file of jobs/ without its ending; None where the user names none.
        dataset: a file of data/ without its ending; None for the job's own dataset.
        overrides: words of SET=, as the user typed them: "method.r=4".
        data_dir: DATA_DIR=, a folder to read the rows from instead of the dataset's source.
        seed: of initialisation and order; None for a run that has none.
        outputs: the folder of all run folders.
        baseline: the name of a baseline, "" for a trained run.
        shots: SHOTS=, the number of examples of the baseline few-shot; None for one for each label.
    """

    model: str | None = None
    dataset: str | None = None
    overrides: tuple[str, ...] = ()
    data_dir: Path | None = None
    seed: int | None = 1
    outputs: Path = OUTPUTS
    baseline: str = ""
    shots: int | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """The overrides as dotted key to value; a wrong word is a `ConfigError`."""
        return yaml_io.split_overrides(list(self.overrides))

    def variables(self) -> dict[str, str]:
        """Return the make variables that mean this request; those with their default value are left out."""
        default = RunRequest()
        given = {
            "MODEL": self.model,
            "DATASET": self.dataset,
            "SET": " ".join(self.overrides),
            "SEED": None if self.seed == default.seed else self.seed,
            "DATA_DIR": self.data_dir,
            "OUTPUTS": None if self.outputs == default.outputs else self.outputs,
            "BASELINE": self.baseline,
            "SHOTS": self.shots,
        }
        return {name: str(value) for name, value in given.items() if value not in (None, "")}

    def command(self, target: str) -> str:
        """Return the make command that runs this request: `make train MODEL=… SEED=2`."""
        return make_command(target, **self.variables())


def make_command(target: str, **variables: object) -> str:
    """Return a make command for messages, quoted for a shell: `make train RUN='a b'`."""
    return shlex.join(["make", target]) + "".join(
        f" {name}={shlex.quote(str(value))}" for name, value in variables.items()
    )

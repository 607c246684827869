"""Export a trained run as a folder that works without this repository, and prove that it labels the test rows equally.

    python scripts/export.py --model minilm-lora --to exported
    python scripts/export.py --run outputs/stance-sample/minilm-lora/seed-1 --to exported --format merged
    make export MODEL=minilm-lora TO=exported FORMAT=merged DTYPE=bfloat16

Formats: peft (the default: what training changed, beside the base), merged (one whole model of transformers), onnx (the
graph of a classifier). The folder is written only if its check.py, run in a fresh virtual environment, computes the
scores of predictions-test.jsonl. outputs/README.md is the guide.
"""

import sys

from common.cli import options
from common.cli.main import guard
from common.core import errors
from common.predict.inputs import find_run
from common.runs.exported import FORMATS, MERGED, ONNX, export_format

_DTYPES = {MERGED: ("float32", "bfloat16", "float16"), ONNX: ("float32", "int8")}


def main(argv: list[str] | None = None) -> None:
    """Export one run; see the module."""
    parser = options.parser(__doc__, "model", "dataset", "set", "seed", "outputs", "force")
    add = parser.add_argument
    add("--run", metavar="DIR", type=options.path, help="a run folder, wherever it lies, instead of --model")
    add("--to", metavar="DIR", type=options.path, help="the folder to write")
    add("--format", choices=FORMATS, default=FORMATS[0], help="peft (default), merged or onnx")
    add(
        "--dtype",
        help="of the weights; merged: float32, bfloat16 or float16 (default: as the run's base); onnx: float32 or int8",
    )
    request, flags = options.parse(parser, argv)
    if flags.to is None:
        raise errors.ConfigError("TO= is missing: the folder to write.")
    if flags.dtype is not None and flags.dtype not in (allowed := _DTYPES.get(flags.format, ())):
        there = (
            f"allowed with FORMAT={flags.format}: {errors.choices(allowed)}"
            if allowed
            else "leave it out with FORMAT=peft"
        )
        raise errors.ConfigError(f"DTYPE={flags.dtype}: {there}.")
    model, config = find_run(request, flags.run, None)
    if export_format(model):
        raise errors.ConfigError(f"RUN={model} is an export already; name the run that it was made from.")

    from common.export import export, overview, source
    from common.model import device
    from common.model.load import quiet_libraries

    quiet_libraries()
    device.announce()
    export.check_target(flags.to, flags.force)
    run = source.load_trained_run(model.parent, config)
    done = export.export_run(run, flags.to, flags.format, flags.dtype)
    print(done.printed)
    print(f"{options.shown(done.folder)}: {done.comparison.sentence()}")
    print(overview.table(done.folder))


if __name__ == "__main__":
    sys.exit(guard(main))

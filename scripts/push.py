"""Upload an exported folder to the Hugging Face Hub, as a private repository unless --public is given.

    python scripts/push.py --run exported --to me/stance --dry-run
    make push RUN=exported TO=me/stance DRY_RUN=1

It first prints what goes where; with --dry-run that is all. The token is that of `hf auth login` or of HF_TOKEN.
"""

import sys

from common.cli import options
from common.cli.main import guard
from common.core.errors import ConfigError
from common.export.push import planned_upload, push


def main(argv: list[str] | None = None) -> None:
    """Upload one folder; see the module."""
    parser = options.parser(__doc__)
    parser.add_argument("--run", metavar="DIR", type=options.path, help="a folder that make export wrote")
    parser.add_argument("--to", metavar="ID", help="the repository: <owner>/<name>")
    parser.add_argument("--public", action="store_true", help="let everybody see it")
    parser.add_argument("--dry-run", action="store_true", help="print what would go; ask and upload nothing")
    _, flags = options.parse(parser, argv)
    if flags.run is None or flags.to is None:
        raise ConfigError("give RUN=<exported folder> and TO=<owner>/<name>.")
    upload = planned_upload(flags.run, flags.to, flags.public)
    for line in upload.lines():
        print(line, flush=True)
    if not flags.dry_run:
        print(f"uploaded: {push(upload)}")


if __name__ == "__main__":
    sys.exit(guard(main))

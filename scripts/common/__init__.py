"""What the scripts share. A script that imports it remembers the signals that come while it imports the rest."""

import sys
from pathlib import Path

from common.core import signals

if Path(sys.argv[0]).resolve().parent == Path(__file__).resolve().parents[1]:
    signals.keep()

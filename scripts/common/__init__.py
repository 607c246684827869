"""What the scripts share, in layers; imports go downwards only (see README, "The house")."""

import logging

# On its first import bitsandbytes asks CPU users for a package of faster kernels; nothing here depends on them.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)

"""What the scripts share, in layers; imports go downwards only (see README, "The house")."""

import logging

# bitsandbytes asks CPU users for a package of faster kernels, and tells of every cast in every forward pass.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)

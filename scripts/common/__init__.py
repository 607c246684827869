"""What the scripts share, in layers; imports go downwards only (see README, "The house")."""

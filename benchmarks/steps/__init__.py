"""How fast, and how much memory: what this project wrote beside a library or a bound, as ratios of one run."""

import os

# Before anything imports tqdm, which reads it once: bars cost time on one side only.
os.environ["TQDM_DISABLE"] = "1"

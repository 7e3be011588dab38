"""Compares the speed and memory of this project's code with a library or a bound, as ratios from one run."""

import os

# tqdm reads this variable once, at import, so it is set first. Progress bars would cost time on one side only.
os.environ["TQDM_DISABLE"] = "1"

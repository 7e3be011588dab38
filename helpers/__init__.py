"""What the lessons import: data, models, training, measurement, plots, and checks of exercises.

The command line is in `workbook`; the invented world and the pretraining of the pocket models are in `microworld`.
"""

__version__ = "0.1.0"

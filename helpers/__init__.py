"""The package that the lessons import: data, models, training, measurement, plots, and exercise checks.

The command line is in `workbook`. The generated data and the pretraining of the pocket models are in `microworld`.
"""

__version__ = "0.1.0"

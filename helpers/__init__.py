"""The plumbing behind the lessons: data, models, loops, checks and records."""

__version__ = "0.1.0"

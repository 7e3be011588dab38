"""The hub track: which models and datasets it takes, how they are fetched, and how their rows get our columns."""

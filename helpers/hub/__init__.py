"""The hub track: `download` fetches and checks files, `models` chooses what fits, `datasets` gives rows our columns.

Which models and datasets there are, and under which names, stands in `helpers.catalog`.
"""

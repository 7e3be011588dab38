"""The hub track: downloads files (`download`), checks which models fit (`models`), converts datasets (`datasets`).

`helpers.catalog` lists the models and datasets with their names on the hub.
"""

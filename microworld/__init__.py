"""The invented world: its grammar, films and texts, the judge that knows the truth, and how the pocket models are made.

`microworld.build` writes data/microworld; `microworld.pretraining` writes data/models. What lessons read of them goes
through `helpers.catalog`.
"""

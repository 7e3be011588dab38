"""The memory that training takes, part by part.

`architecture` reads a model's sizes, `prediction` has the formulas, `measurement` measures a real training step, and
`microbatches` uses the formulas to decide whether a step fits. `helpers.cost` measures a run's seconds and peak.
"""

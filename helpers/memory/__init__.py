"""What training takes in memory, part by part.

`architecture` reads a model's sizes, `prediction` has the formulas, `measurement` counts on a real step, and
`microbatches` asks the formulas whether a step fits. Seconds and the peak of a whole run are in `helpers.cost`.
"""

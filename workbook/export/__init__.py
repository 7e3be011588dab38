"""`workbook export`: makes of a model that a run kept a folder which plain `transformers` loads, without this project.

`kept` finds the model in a run. `classifier` and `decoder` write the folder, `gguf_file` a decoder's GGUF file, `card`
the model card. `alone` is run in a process of its own that has no `helpers`, and says what the folder's model says.
"""

"""`workbook export`: turns a model that a run kept into a folder that plain `transformers` loads without this project.

`kept` finds the model in a run. `classifier` and `decoder` write the folder, `gguf_file` a decoder's GGUF file, `card`
the model card. `alone` runs in a separate process without `helpers` and returns the outputs of the folder's model.
"""

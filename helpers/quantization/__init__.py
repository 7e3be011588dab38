"""Quantization and pruning of weights, as in lesson 10.

`quantizers` turns weights into codes, `packing` packs codes into bytes, `pruning` removes weights, `storage` writes
the results to files, and `four_bit` is the layer of lesson 11. QLoRA's training is in `helpers.qlora`.
"""

"""What training takes in memory, part by part: predicted by formulas, and measured on a real step."""

from helpers.memory.architecture import Architecture
from helpers.memory.measurement import measure, saved_bytes, storage_bytes
from helpers.memory.prediction import MemoryLedger, Plan, adam_bytes, four_bit_bytes, predict

__all__ = [
    "Architecture",
    "MemoryLedger",
    "Plan",
    "adam_bytes",
    "four_bit_bytes",
    "measure",
    "predict",
    "saved_bytes",
    "storage_bytes",
]

"""Lesson 08, LoRA in PyTorch: what only this lesson needs."""

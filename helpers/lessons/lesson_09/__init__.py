"""Lesson 09, LoRA with Hugging Face: what only this lesson needs."""

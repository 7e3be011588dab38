"""Lesson 11, QLoRA: what only this lesson needs."""

"""Lesson 10, quantization: what only this lesson needs."""

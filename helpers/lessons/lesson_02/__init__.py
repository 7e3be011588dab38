"""Lesson 02, full fine-tuning or the last layer: what only this lesson needs."""

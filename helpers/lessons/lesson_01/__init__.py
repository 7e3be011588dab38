"""Lesson 01, pretrained transformers: what only this lesson needs."""

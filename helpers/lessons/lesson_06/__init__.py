"""Lesson 06, direct preference optimization: what only this lesson needs."""

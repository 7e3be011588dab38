"""Lesson 12, course conclusion: what only this lesson needs."""

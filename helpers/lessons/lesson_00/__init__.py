"""Lesson 00, start here: what only this lesson needs."""

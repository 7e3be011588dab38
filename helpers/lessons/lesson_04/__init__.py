"""Lesson 04, supervised fine-tuning: what only this lesson needs."""

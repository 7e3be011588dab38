"""Lesson 03, fine-tuning pitfalls: what only this lesson needs."""

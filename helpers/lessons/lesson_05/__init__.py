"""Lesson 05, reward models and RLHF: what only this lesson needs."""

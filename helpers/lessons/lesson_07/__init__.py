"""Lesson 07, PEFT methods: what only this lesson needs."""

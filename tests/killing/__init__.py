"""Processes of the daemon that are killed at a chosen line of the path of a question.

`python -m tests.killing` is their launcher: it imports the daemon once, and forks one for each run.
"""

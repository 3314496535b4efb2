"""The values of a migration: its specification, its plan, and its progress.

``specification`` is what a person writes, ``selection`` chooses the tags of a repository, ``plan``
is what a planner answers, ``totals`` is what people see while it runs. Nothing here opens a
connection or a file; all of it may be untrusted input and is checked as such.
"""

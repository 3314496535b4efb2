"""The values of a migration: what is asked for, what is planned, and how far it is.

``spec`` is what a person writes, ``selection`` chooses the tags of a repository, ``plan`` is
what a planner answers, ``totals`` is what people see while it runs. Nothing here opens a
connection or a file; all of it may come from a stranger and is checked as such.
"""

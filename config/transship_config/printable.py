"""Text that others wrote, so that it can be shown."""

from __future__ import annotations


def clean(text: str) -> str:
    """The text with everything that is not printable (control, bidi, line ends) escaped.

    Job records, logs and messages hold what registries, engines and other people wrote.
    """
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode()
        for c in text
    )

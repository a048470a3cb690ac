"""Escape control characters in text from jobs, machines and servers."""


def plain(text: str) -> str:
    """Return the text as one line that cannot control a terminal: unprintable characters become `\\x…`."""
    return "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in text)

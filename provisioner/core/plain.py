"""Text of others, made harmless."""


def plain(text: str) -> str:
    """The text in one line that cannot steer a terminal: parts of it come from jobs, machines and servers."""
    return "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in text)

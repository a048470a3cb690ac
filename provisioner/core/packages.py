"""The packages a recipe may ask for: words that no installer takes for an option, and no shell for more."""

import re
from typing import Any

_NAME = r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?"
_EXTRAS = rf"(\[{_NAME}(,{_NAME})*])?"
_VERSION = r"(===?|!=|~=|<=?|>=?)[A-Za-z0-9.*+!_-]+"
#: A host, with neither user nor password before it.
_URL = r"(git\+)?https://[A-Za-z0-9.-]+(:[0-9]+)?/[A-Za-z0-9._~/@+%=#-]+"
#: A requirement of PyPA's "Dependency specifiers", without markers, or a URL that pip takes.
_PIP = rf"{_NAME}{_EXTRAS}({_VERSION}(,{_VERSION})*)?|({_NAME}{_EXTRAS}@)?{_URL}"
#: Debian Policy, 5.6.1 and 5.6.12. apt-get takes a name that ends in a hyphen for one to remove.
_APT = r"[a-z0-9][a-z0-9+.-]*[a-z0-9+](=[A-Za-z0-9][A-Za-z0-9.+:~-]*)?"


def words(value: Any) -> Any:
    """Text is taken apart at its spaces; a list is one already."""
    return value.split() if isinstance(value, str) else value


def pip(word: str) -> str:
    """Raises ValueError unless it is a plain requirement."""
    return _checked(word, _PIP, "write a requirement as name, name[extra]==1.2 or an https URL, without spaces")


def apt(word: str) -> str:
    """Raises ValueError unless it is a Debian package, perhaps of a version."""
    return _checked(word, _APT, "write a Debian package as name or name=version")


def requirements(text: str) -> str:
    """The content of a requirements.txt; raises ValueError when it holds credentials."""
    # pip puts variables in itself (pip documentation, "Requirements File Format"), secret ones too.
    if re.search(r"https?://(?!([^/@:\s]*:)?\$\{[A-Z0-9_]+\}@)[^/\s]*@", text):
        raise ValueError("a recipe holds no credentials; make a variable of a secret and write https://${NAME}@host")
    return text


def _checked(word: str, pattern: str, right: str) -> str:
    if re.search(r"://[^/]*@", word):
        raise ValueError("a recipe holds no credentials; let a secret be the variable that pip reads")
    if not re.fullmatch(pattern, word):
        raise ValueError(right)
    return word

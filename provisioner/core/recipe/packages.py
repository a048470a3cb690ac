"""Check a recipe's packages, so that no installer reads a package as an option, and no shell runs it as a command."""

import re
import shlex
from typing import Any

_NAME = r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?"
_EXTRAS = rf"(\[{_NAME}( ?, ?{_NAME})*])?"
_VERSION = r"(===?|!=|~=|<=?|>=?) ?[A-Za-z0-9.*+!_-]+"
#: A marker compares variables and quoted texts; the comparisons may be in parentheses.
_VALUE = r"""([a-z_]+(\.[a-z_]+)?|'[A-Za-z0-9_.*+! -]*'|"[A-Za-z0-9_.*+! -]*")"""
_OPERATOR = r"( ?(===?|!=|~=|<=?|>=?) ?| (in|not in) )"
_COMPARISON = rf"\(* ?{_VALUE}{_OPERATOR}{_VALUE} ?\)*"
_MARKER = rf"{_COMPARISON}( (and|or) {_COMPARISON})*"
#: An https URL without user and password.
_URL = r"(git\+)?https://[A-Za-z0-9.-]+(:[0-9]+)?/[A-Za-z0-9._~/@+%=#-]+"
#: A requirement as in PyPA's "Dependency specifiers", or a URL that pip accepts; both may have a marker.
_PIP = (
    rf"{_NAME}{_EXTRAS}( ?{_VERSION}( ?, ?{_VERSION})*)?( ?; ?{_MARKER})?"
    rf"|({_NAME}{_EXTRAS} ?@ ?)?{_URL}( ; ?{_MARKER})?"
)
#: Debian Policy, 5.6.1 and 5.6.12. A name may not end with a hyphen, because `apt-get install name-` removes a package.
_APT = r"[a-z0-9][a-z0-9+.-]*[a-z0-9+](=[A-Za-z0-9][A-Za-z0-9.+:~-]*)?"


def words(value: Any) -> Any:
    """Return the words of a text, split and unquoted as by a shell. A list is returned unchanged.

    A text that is a single requirement with a marker needs no quotes.
    """
    if not isinstance(value, str):
        return value
    if ";" in value and re.fullmatch(_PIP, value.strip()):
        return [value.strip()]
    try:
        return shlex.split(value)
    except ValueError as error:
        raise ValueError("unclosed quote: close it, or write a list") from error


def pip(word: str) -> str:
    """Return the requirement without surrounding quotes; raises ValueError for other words, such as an option."""
    quoted = re.fullmatch("(['\"])(.*)\\1", word)
    return _checked(
        quoted[2] if quoted else word,
        _PIP,
        "write a requirement as name, name[extra]==1.2, 'name; marker' in quotes, or an https URL; "
        "options belong in requirements_txt",
    )


def apt(word: str) -> str:
    """Return the word; raises ValueError unless it is `name` or `name=version` of a Debian package."""
    return _checked(word, _APT, "write a Debian package as name or name=version")


def requirements(text: str) -> str:
    """Return the content of a requirements.txt; raises ValueError if it contains credentials."""
    # `${NAME}` is allowed: pip expands variables, also secret ones (pip documentation, "Requirements File Format").
    if re.search(r"https?://(?!([^/@:\s]*:)?\$\{[A-Z0-9_]+\}@)[^/\s]*@", text):
        raise ValueError(
            "a recipe must not contain credentials: set a variable from a secret, and write https://${NAME}@host"
        )
    return text


def _checked(word: str, pattern: str, right: str) -> str:
    if re.search(r"://[^/]*@", word):
        raise ValueError("a recipe must not contain credentials: set the variable that pip reads from a secret")
    if not re.fullmatch(pattern, word):
        raise ValueError(right)
    return word

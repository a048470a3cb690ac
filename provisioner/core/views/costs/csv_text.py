"""Usage as CSV (RFC 4180)."""

import csv
import io
from dataclasses import fields

from provisioner.core.views.costs.usage import Amounts, Usage

#: A spreadsheet executes a cell that begins with one of these as a formula (OWASP, "CSV Injection").
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def usage_csv(item: Usage) -> str:
    """Return one line for each group and state, `final` or `estimated`; groups without an amount have no line.

    Amounts are hours and US dollars. A text that a spreadsheet would execute begins with an apostrophe.
    """
    names = [field.name for field in fields(Amounts)]
    text = io.StringIO()
    # csv ends lines with CR LF, and quotes cells with a comma, a quote or a line end.
    write = csv.writer(text)
    write.writerow([*map(cell, item.by), "state", *names])
    for row in item.rows:
        for state, amounts in (("final", row.final), ("estimated", row.estimated)):
            numbers = [getattr(amounts, name) for name in names]
            if any(numbers):
                write.writerow([*map(cell, row.group), state, *(f"{number:.6f}" for number in numbers)])
    return text.getvalue()


def cell(text: str) -> str:
    """Return the text as a cell that a spreadsheet does not execute."""
    return f"'{text}" if text.startswith(FORMULA) else text

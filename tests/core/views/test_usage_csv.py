"""Usage as CSV: what a spreadsheet reads, and what it must not execute."""

import csv
import io
from dataclasses import fields

import pytest

from provisioner.core.views.costs.csv_text import cell, usage_csv
from provisioner.core.views.costs.usage import Amounts, Usage, UsageRow

NOTHING = Amounts(*[0.0] * 12)
SOME = Amounts(1, 1.25, 2, 0.1, 0.2, 0.3, 0.01, 0.02, 0.03, 0, 0, 1e-7)


def usage(*rows: UsageRow, by: tuple[str, ...] = ("job", "tag:team")) -> Usage:
    return Usage(0.0, "2026-01-01", "2026-01-31", by, rows, SOME, NOTHING, (), 0, ())  # type: ignore[arg-type]


def test_final_and_estimated_amounts_have_lines_of_their_own() -> None:
    """Numbers have no exponents, which spreadsheets read in different ways."""
    text = usage_csv(usage(UsageRow(("ann/train", "x"), SOME, SOME), UsageRow(("ann/eval", ""), NOTHING, SOME)))
    lines = list(csv.reader(io.StringIO(text, newline="")))
    assert lines[0] == ["job", "tag:team", "state", *(field.name for field in fields(Amounts))]
    assert [line[:3] for line in lines[1:]] == [
        ["ann/train", "x", "final"],
        ["ann/train", "x", "estimated"],
        ["ann/eval", "", "estimated"],
    ]
    assert lines[1][3:6] == ["1.000000", "1.250000", "2.000000"]
    assert lines[1][-1] == "0.000000"


def test_lines_end_as_rfc_4180_says_and_odd_texts_are_quoted() -> None:
    text = usage_csv(usage(UsageRow(('a"b,c\nd', "ü"), SOME, NOTHING)))
    assert text.count("\r\n") == 2
    assert '"a""b,c\nd",ü,final,' in text


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1"])
def test_a_text_that_a_spreadsheet_would_execute_begins_with_an_apostrophe(text: str) -> None:
    """Tags and job names are written by users of other owners."""
    assert cell(text) == f"'{text}"
    read = list(csv.reader(io.StringIO(usage_csv(usage(UsageRow((text, text), SOME, NOTHING))), newline="")))
    assert read[1][:2] == [f"'{text}"] * 2
    head, *_ = csv.reader(io.StringIO(usage_csv(usage(by=(text,))), newline=""))
    assert head[0] == f"'{text}"

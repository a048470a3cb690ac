"""Render the page's templates: every value is escaped, and scripts and styles come only from files of this server."""

import datetime as dt
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from provisioner.core.cloud.caps.budget import dollars
from provisioner.core.dates import datable
from provisioner.core.plain import plain
from provisioner.core.units import ago, duration, precise, rate, size, stopwatch
from provisioner.core.views.codec import iso
from provisioner.faces.page.static_files import STATIC

#: A browser loads nothing from elsewhere, and executes and styles only by files of this server; no page of another site
#: can frame the page, and forms are sent only to this server (W3C, "Content Security Policy Level 3").
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'; report-uri /csp-report"
)

HEADERS = {
    "content-security-policy": POLICY,
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "same-origin",
    "vary": "cookie",
}


def utc(at: float) -> str:
    """Return a Unix time as a date and time in UTC."""
    return f"{dt.datetime.fromtimestamp(datable(at), dt.UTC):%Y-%m-%d %H:%M:%S} UTC"


def lines(text: str) -> str:
    """Return a text of several lines with its control characters made visible."""
    return "\n".join(plain(line) for line in text.expandtabs(4).replace("\r\n", "\n").split("\n"))


def web_address(text: str) -> str:
    """Return the text if it is an address of the web that a link may open, or ""."""
    return text if text.lower().startswith(("https://", "http://")) else ""


def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("provisioner.faces.page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.filters |= {
        "ago": ago,
        "seconds": duration,
        "dollars": dollars,
        "bytes": size,
        "plain": plain,
        "lines": lines,
        "precise": precise,
        "rate": rate,
        "stopwatch": stopwatch,
        "iso": iso,
        "utc": utc,
        "web_address": web_address,
    }
    made.globals["static"] = STATIC.address
    return made


ENVIRONMENT = _environment()


def rendered(template: str, values: dict[str, Any]) -> str:
    """Return the template's text with these values."""
    return ENVIRONMENT.get_template(template).render(values)

"""Check a page's accessibility with axe-core (Deque Systems), as far as a program can check WCAG."""

from pathlib import Path

from playwright.sync_api import Page

#: scripts/test makes it (`make_axe` in scripts/venv).
SCRIPT = Path(__file__).parents[2] / ".venv" / "axe" / "axe.min.js"
#: WCAG 2.2, levels A and AA, and axe's own good practice.
TAGS = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice")
RUN = """async (tags) => (await axe.run(document, {runOnly: tags, resultTypes: ["violations"]})).violations.flatMap(
    (rule) => rule.nodes.map((node) => [rule.impact, rule.id, node.target.join(" "), node.failureSummary]))"""


def violations(page: Page) -> list[str]:
    """Return a line for each serious or critical violation on the page."""
    page.evaluate(SCRIPT.read_text())
    found = page.evaluate(RUN, list(TAGS))
    return [
        f"{rule} at {where}: {' '.join(summary.split())}"
        for impact, rule, where, summary in found
        if impact in ("serious", "critical")
    ]

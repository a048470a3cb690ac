"""The error that a world raises when a rule is broken."""


class Violation(BaseException):
    """Raised when a rule is broken. It is no subclass of Exception, so that the code under test cannot catch it."""

    def __init__(self, rule: str, told: str = "") -> None:
        super().__init__(f"{rule}: {told}")
        self.rule = rule

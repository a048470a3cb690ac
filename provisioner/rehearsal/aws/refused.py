"""The error with which the double refuses a call."""


class Refused(Exception):
    """An error with the code, message and HTTP status of the AWS service."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(f"{code}: {message}")
        self.code, self.message, self.status = code, message, status

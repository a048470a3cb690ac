"""How the model says no."""


class Refused(Exception):
    """An error as EC2 words it."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(f"{code}: {message}")
        self.code, self.message, self.status = code, message, status

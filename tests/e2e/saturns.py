"""Saturn's unchanged command-line client, as its user calls it."""

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from tests.api.served import Server
from tests.e2e.rig import Rig
from tests.polling import until

SC = Path(__file__).parents[2] / ".venv" / "saturn" / "bin" / "sc"


@dataclass
class Client:
    """`sc`, Saturn's client, with a token."""

    whole: Rig
    server: Server
    token: str
    folder: Path
    #: Further variables, such as those that give access to S3.
    environment: Mapping[str, str] = field(default_factory=dict)

    def __call__(self, *words: str, code: int = 0) -> str:
        environment = {
            **self.environment,
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "SATURN_BASE_URL": self.server.url,
            "SATURN_TOKEN": self.token,
        }
        done = subprocess.run(
            [SC, *words], env=environment, cwd=self.folder, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == code, f"{words}: {done.stdout}{done.stderr}"
        assert "Traceback" not in done.stderr
        return done.stdout

    def recipe(self, name: str, command: object, **spec: object) -> str:
        file = self.folder / f"{name}.yaml"
        variables = {"GO": str(self.folder / "go"), "COUNT": 3}
        whole = {"name": name, "image": "any", "instance_type": "g5.xlarge", "command": command, **spec}
        file.write_text(yaml.safe_dump({"type": "job", "spec": {**whole, "environment_variables": variables}}))
        return str(file)

    def pods(self, name: str, *words: str) -> list[list[str]]:
        """Return the table's cells without its header."""
        return [line.split() for line in self("pods", "job", name, *words).splitlines()[2:]]

    def until_pod(self, name: str, status: str) -> str:
        def there() -> bool:
            found = self.pods(name)
            return bool(found) and found[0][1] == status

        until(there, f"a pod is {status}")
        return self.pods(name)[0][0]

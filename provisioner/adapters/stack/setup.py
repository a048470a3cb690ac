"""Set up an account for an installation, and undo that."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from provisioner.adapters.stack import account
from provisioner.adapters.stack.calls import SetupCalls
from provisioner.adapters.stack.cloudformation import Stacks
from provisioner.core.cloud.policies import Document
from provisioner.core.cloud.setup.plan import Place, entries, made, wanted
from provisioner.core.cloud.setup.settings_text import Value
from provisioner.core.cloud.setup.stack import LOGIN_TAG, SETUP_TAG, Wanted, Wishes
from provisioner.core.cloud.setup.template import body, template
from provisioner.core.errors import CloudError, Invalid


class Setup:
    """The stack of one installation. `policies` returns those of `provision iam` for a bucket `name/prefix`."""

    def __init__(
        self,
        calls: SetupCalls,
        stacks: Stacks,
        wishes: Wishes,
        policies: Callable[[str], Mapping[str, Document]],
    ) -> None:
        self._calls, self._stacks, self._wishes, self._policies = calls, stacks, wishes, policies

    def plan(self) -> Wanted:
        """Look at the account, and return what the stack makes. Raises Invalid, Conflict and CloudError."""
        stack = self._stacks.find()
        resources = self._stacks.resources()
        endpoint = resources.get("S3Endpoint", "")
        found = account.look(self._calls, self._wishes, resources, stack.tags if stack else {}, endpoint)
        # The policies name the bucket, and the plan chooses it.
        chosen = wanted(self._wishes, found, {})
        return wanted(self._wishes, found, self._policies(f"{chosen.bucket}/{chosen.prefix}".rstrip("/")))

    def follow(self) -> Iterator[str]:
        """Wait for the end of an operation on the stack that another process has begun."""
        return self._stacks.settled()

    def apply(self, wanted: Wanted) -> Iterator[str]:
        """Create or update the stack. Yields a line for each event; none if nothing is to change."""
        tags = {SETUP_TAG: wanted.installation, LOGIN_TAG: wanted.sso_profile}
        return self._stacks.apply(body(template(wanted)), {key: value for key, value in tags.items() if value})

    def drift(self) -> Iterator[str]:
        return self._stacks.drift()

    def entries(self, wanted: Wanted) -> Mapping[Place, Value]:
        """Return the settings that name what the stack has made or uses."""
        stack = self._stacks.find()
        return entries(self._wishes, wanted, stack.outputs if stack else {})

    def made(self) -> Mapping[Place, Value] | None:
        """Return the settings that name resources of the stack; None if there is no stack."""
        stack = self._stacks.find()
        return made(self._wishes, stack.outputs) if stack else None

    def delete(self) -> Iterator[str]:
        return self._stacks.delete()

    def delete_bucket(self, bucket: str) -> bool:
        """Delete the bucket, and return True; return False if it is not empty. Raises CloudError."""
        try:
            self._calls.call("s3", "delete_bucket", Bucket=bucket)
        except CloudError as error:
            if error.code != "BucketNotEmpty":
                raise
            return False
        return True


def sso_role(profile: str) -> str:
    """Return the permission set of an SSO profile of this computer's AWS configuration; raises Invalid."""
    import botocore.session

    profiles: Mapping[str, Any] = botocore.session.Session().full_config["profiles"]
    if profile not in profiles:
        known = ", ".join(sorted(profiles)) or "none"
        raise Invalid(f"--sso-profile {profile}: not in the AWS configuration (`aws configure sso`); profiles: {known}")
    if not (role := profiles[profile].get("sso_role_name")):
        raise Invalid(f"--sso-profile {profile}: this profile has no sso_role_name, so it is none of SSO")
    return str(role)

"""An installation whose account is not set up yet: wishes, what the account has, and policies."""

from typing import Any

from provisioner.adapters import policy_templates
from provisioner.core.cloud.policies import PolicyValues, filled
from provisioner.core.cloud.setup.plan import wanted
from provisioner.core.cloud.setup.stack import Found, Wanted, Wishes

ACCOUNT = "123456789012"
ZONES = ("us-east-1a", "us-east-1b")


def wishes(**changes: Any) -> Wishes:
    given: dict[str, Any] = {
        "installation": "gpu-jobs",
        "region": "us-east-1",
        "bucket": "",
        "subnets": (),
        "profile": "provision-machine",
        "security_groups": (),
        "roles": {"provision-machine": "provision-machine"},
        "profile_groups": {},
        "vpc": "",
        "sso_profile": None,
    }
    return Wishes(**{**given, **changes})


def found(**changes: Any) -> Found:
    """Return what an empty account has, with these changes."""
    given: dict[str, Any] = {
        "account": ACCOUNT,
        "zones": ZONES,
        "bucket_exists": False,
        "subnets": (),
        "route_tables": (),
        "profiles": {},
        "roles": {},
        "spot_role": False,
        "resources": {},
        "sso_profile": "",
    }
    return Found(**{**given, **changes})


def planned(asked: Wishes, has: Found) -> Wanted:
    """Return the plan with the policies of `provision iam`."""
    chosen = wanted(asked, has, {})
    values = PolicyValues(asked.installation, asked.region, f"{chosen.bucket}/{chosen.prefix}".rstrip("/"), asked.roles)
    return wanted(asked, has, filled(policy_templates.templates(), values))

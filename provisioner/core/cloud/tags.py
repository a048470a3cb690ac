"""The tags that every machine carries from its creation. Machines alive have them: they are never renamed."""

INSTALLATION_TAG = "provision:installation"
LAUNCH_TAG = "provision:launch"
LIFETIME_TAG = "provision:lifetime"
OWNER_TAG = "provision:owner"
JOB_TAG = "provision:job"

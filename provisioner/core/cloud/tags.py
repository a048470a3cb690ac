"""Tags that every machine has from its creation. Never rename them: machines that are alive have the old names."""

INSTALLATION_TAG = "provision:installation"
LAUNCH_TAG = "provision:launch"
LIFETIME_TAG = "provision:lifetime"
OWNER_TAG = "provision:owner"
JOB_TAG = "provision:job"

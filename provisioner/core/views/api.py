"""The version of the HTTP API, which a server and its client compare."""

#: The version of the views. It changes only if a client of the version before cannot read them any more.
API = 1
#: Headers of every answer: the version of the API, and the version of the package that a client may install.
API_HEADER, PACKAGE_HEADER = "Provision-API", "Provision-Version"
#: The media type that clients asked for before there were versions.
UNVERSIONED = "application/vnd.provision+json"


def install(version: str) -> str:
    """Return what the user of a client must do whose server has another version of the API."""
    return f"the server has version {version}: pip install provisioner=={version}"

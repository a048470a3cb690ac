"""The version of the HTTP API, which a server and its client compare."""

#: The version of the API. It changes only if clients of the previous version can no longer read the views.
API = 1
#: Headers of every answer: the version of the API, and the version of the server's package, which a client can install.
API_HEADER, PACKAGE_HEADER = "Provision-API", "Provision-Version"
#: The name under which the package is installed. The import name is `provisioner`; the package index has an unrelated
#: package with that name.
DISTRIBUTION = "provision-gpu"
#: The media type that clients requested before the API had versions.
UNVERSIONED = "application/vnd.provision+json"


def install(version: str) -> str:
    """Return advice for a client whose server has another API version; `version` is that of the server's package."""
    return f"the server has version {version}: pip install {DISTRIBUTION}=={version}"

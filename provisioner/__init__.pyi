import sys

# The agent's modules are also type-checked for Python 3.10. There the checker must not follow this import into modules
# that need 3.11.
if sys.version_info >= (3, 11):  # noqa: UP036
    from provisioner.faces.python import connect as connect

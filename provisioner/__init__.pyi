import sys

# What the agent is made of is checked on Python 3.10 too, and must not lead the checker to the rest.
if sys.version_info >= (3, 11):  # noqa: UP036
    from provisioner.faces.python import connect as connect

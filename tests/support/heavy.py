"""Libraries that take long to import."""

#: Libraries that only `provision serve` needs.
SERVERS = ("fastapi", "prometheus_client", "starlette", "uvicorn")
#: Libraries that a command which only shows its help does not import.
HEAVY = (
    *("alembic", "boto3", "botocore", "cronsim", "cryptography", "moto", "paramiko", "pydantic_core", "rich"),
    *("sqlalchemy", "sqlmodel", "structlog", "tenacity", "urllib3", "yaml", *SERVERS),
)

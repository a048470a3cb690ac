"""Recognise the faults that only a person can end: of the control plane's credentials, and of the AWS account.

The runs wait for the operator meanwhile; none is refused.
"""

from __future__ import annotations

from collections.abc import Mapping

from provisioner.core.errors import NeedsOperator

_LOG_IN = (
    "renew the control plane's AWS credentials (for instance `aws sso login`); if they are in environment variables, "
    "restart it with new ones"
)
_FIND = "log in, set AWS_PROFILE or the AWS_* variables, or give the host an instance profile"
_CONFIGURE = "correct the AWS configuration of the control plane's user: AWS_PROFILE, ~/.aws/config, credentials"
_KEYS = "correct the control plane's AWS credentials: AWS does not accept them"
_ACCOUNT = "AWS has not enabled this for the account: do what the message says, as the account's administrator"
_SPOT_ROLE = "create the role once: `aws iam create-service-linked-role --aws-service-name spot.amazonaws.com`"

#: By error code of any service: what the operator must do. Sources: EC2 API Reference, "Error codes"; S3 API
#: Reference, "Error responses"; IAM User Guide, "Common errors".
ADVICE: Mapping[str, str] = {
    "ExpiredToken": _LOG_IN,
    "ExpiredTokenException": _LOG_IN,
    # EC2's code for an expired session token ("Request has expired").
    "RequestExpired": _LOG_IN,
    "TokenRefreshRequired": _LOG_IN,
    "AuthFailure": _KEYS,
    "IncompleteSignature": _KEYS,
    "InvalidAccessKeyId": _KEYS,
    "InvalidClientTokenId": _KEYS,
    "InvalidSecurity": _KEYS,
    "InvalidSignatureException": _KEYS,
    "InvalidToken": _KEYS,
    "MissingAuthenticationToken": _KEYS,
    "MissingAuthenticationTokenException": _KEYS,
    "SignatureDoesNotMatch": _KEYS,
    "UnrecognizedClientException": _KEYS,
    # Karpenter's list of EC2's codes has it (pkg/errors/errors.go).
    "AuthFailure.ServiceLinkedRoleCreationNotPermitted": _SPOT_ROLE,
    "AccountProblem": _ACCOUNT,
    "AllAccessDisabled": _ACCOUNT,
    "Blocked": _ACCOUNT,
    "NotSignedUp": _ACCOUNT,
    "OptInRequired": _ACCOUNT,
    "SubscriptionRequiredException": _ACCOUNT,
    # Minutes, or up to 4 hours (skyplane#799).
    "PendingVerification": "wait, or write to the address in the message: AWS verifies the account",
}
#: Of an AuthFailure for an AMI that the account may not use ("Not authorized for images: [ami-…]"): the credentials are
#: right, so this is a mistake in the settings.
_NOT_SHARED = "Not authorized for images"

#: Operations that botocore calls to get credentials. They fail before the call for which it needs them.
_LOGINS = frozenset(
    {
        "AssumeRole",
        "AssumeRoleWithSAML",
        "AssumeRoleWithWebIdentity",
        "CreateOAuth2Token",
        "CreateToken",
        "GetRoleCredentials",
        "GetSessionToken",
    }
)


def rejected(code: str, message: str) -> NeedsOperator | None:
    """Return the error for the code of a service's answer, or None if another party can end the fault."""
    advice = ADVICE.get(code)
    if advice is None or (code == "AuthFailure" and _NOT_SHARED in message):
        return None
    return NeedsOperator(f"{message.rstrip('.')}; {advice}", code)


def fault(error: Exception) -> NeedsOperator | None:
    """Return the error to raise if botocore could not get credentials or read its configuration, else None."""
    import botocore.exceptions as boto

    code = type(error).__name__
    if isinstance(error, boto.ClientError):
        told, status = error.response.get("Error", {}), error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        if error.operation_name not in _LOGINS or (status or 0) >= 500 or status == 429:
            return None
        message = f"{error.operation_name} for the credentials failed: {told.get('Message', '')}"
        return NeedsOperator(f"{message.rstrip('.')}; {_LOG_IN}", told.get("Code", ""))
    if isinstance(error, boto.CredentialRetrievalError) and error.kwargs.get("provider") == "iam-role":
        # The metadata service of the control host: it answers again soon.
        return None
    # The metadata service is asked once, for a second (botocore#2117), so its silence too is a NoCredentialsError.
    absent = boto.NoCredentialsError | boto.PartialCredentialsError
    lapsed = (
        boto.CredentialRetrievalError
        | boto.LoginError
        | boto.NoAuthTokenError
        | boto.RefreshWithMFAUnsupportedError
        | boto.SSOError
        | boto.TokenRetrievalError
    )
    wrong = (
        boto.ConfigNotFound
        | boto.ConfigParseError
        | boto.InvalidConfigError
        | boto.MissingDependencyException
        | boto.ProfileNotFound
        | boto.UnknownCredentialError
        | boto.UnknownTokenProviderError
    )
    for kinds, advice in ((absent, _FIND), (lapsed, _LOG_IN), (wrong, _CONFIGURE)):
        if isinstance(error, kinds):
            return NeedsOperator(f"{str(error).rstrip('.')}; {advice}", code)
    return None

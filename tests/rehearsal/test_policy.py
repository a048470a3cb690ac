"""The evaluation of IAM policies, as in the IAM User Guide."""

from typing import Any

import pytest

from provisioner.rehearsal.aws.policy import NotUnderstood, allows, parse

ME = {"aws:userid": "AROA1:i-1"}
MINE = "arn:aws:s3:::b/machines/${aws:userid}/log/*"


def statement(effect: str, action: Any, resource: Any) -> dict[str, Any]:
    return {"Effect": effect, "Action": action, "Resource": resource}


def policy(*statements: dict[str, Any]) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": list(statements)}


READ_ALL = statement("Allow", "s3:Get*", "arn:aws:s3:::b/*")


@pytest.mark.parametrize(
    ("statements", "action", "resource", "expected"),
    [
        ([], "s3:GetObject", "arn:aws:s3:::b/k", False),
        ([READ_ALL], "s3:GetObject", "arn:aws:s3:::b/deep/k", True),
        ([READ_ALL], "S3:getobject", "arn:aws:s3:::b/k", True),
        ([READ_ALL], "s3:PutObject", "arn:aws:s3:::b/k", False),
        ([READ_ALL], "s3:GetObject", "arn:aws:s3:::B/k", False),
        ([READ_ALL], "s3:GetObject", "arn:aws:s3:::b", False),
        ([READ_ALL, statement("Deny", "*", "arn:aws:s3:::b/secret")], "s3:GetObject", "arn:aws:s3:::b/secret", False),
        ([statement("Allow", ["s3:A", "s3:B"], ["x", "y?"])], "s3:B", "y1", True),
        ([statement("Allow", "s3:A", "a.c")], "s3:A", "abc", False),
        ([statement("Allow", "s3:PutObject", MINE)], "s3:PutObject", "arn:aws:s3:::b/machines/AROA1:i-1/log/x", True),
        ([statement("Allow", "s3:PutObject", MINE)], "s3:PutObject", "arn:aws:s3:::b/machines/AROA1:i-2/log/x", False),
    ],
)
def test_a_decision_follows_the_document(
    statements: list[dict[str, Any]], action: str, resource: str, expected: bool
) -> None:
    """Deny wins, the default is deny, and wildcards and variables work as in IAM."""
    assert allows(parse(policy(*statements)), action, resource, ME) is expected


def test_wildcard_in_a_variables_value_is_literal() -> None:
    """A `*` in a variable's value is literal."""
    statements = parse(policy(statement("Allow", "s3:GetObject", "${aws:userid}")))
    assert not allows(statements, "s3:GetObject", "other", {"aws:userid": "*"})


@pytest.mark.parametrize(
    "document",
    [
        policy({**READ_ALL, "Condition": {"StringEquals": {"a": "b"}}}),
        policy({**READ_ALL, "Condition": {"StringEquals": {"aws:RequestTags/x": "b"}}}),
        policy({**READ_ALL, "Condition": {"StringNotEquals": {"aws:RequestTag/x": "b"}}}),
        policy({"Effect": "Allow", "NotAction": "s3:Get*", "Resource": "*"}),
        policy({"Effect": "allow", "Action": "*", "Resource": "*"}),
        {"Version": "2008-10-17", "Statement": []},
    ],
)
def test_unsupported_policy_element_is_an_error(document: dict[str, Any]) -> None:
    """Unsupported conditions and elements are never ignored."""
    with pytest.raises(NotUnderstood):
        parse(document)


def test_an_unknown_variable_is_an_error() -> None:
    """A policy variable without a value here is an error."""
    statements = parse(policy(statement("Allow", "s3:GetObject", "${aws:username}/*")))
    with pytest.raises(NotUnderstood):
        allows(statements, "s3:GetObject", "me/x", ME)


def test_a_condition_looks_at_the_resource() -> None:
    """`StringLike` on a tag matches resources with a matching tag, and none without the tag."""
    tagged = {
        **statement("Allow", "ec2:TerminateInstances", "*"),
        "Condition": {"StringLike": {"aws:ResourceTag/x": "a*"}},
    }
    statements = parse(policy(tagged))
    for tags, expected in (({"aws:ResourceTag/x": "abc"}, True), ({"aws:ResourceTag/x": "b"}, False), ({}, False)):
        assert allows(statements, "ec2:TerminateInstances", "i-1", {**ME, **tags}) is expected


@pytest.mark.parametrize(
    ("operator", "wanted", "value", "expected"),
    [
        ("StringEquals", "abc", "abc", True),
        ("StringEquals", "a*", "abc", False),
        ("StringEquals", "a*", "a*", True),
        ("StringEquals", ["x", "abc"], "abc", True),
        ("StringEquals", "${aws:userid}", "AROA1:i-1", True),
        ("StringLike", "a*", "abc", True),
        ("StringLike", "a${*}", "abc", False),
        ("StringLike", "a${*}", "a*", True),
    ],
)
def test_operator_compares_as_in_iam(operator: str, wanted: Any, value: str, expected: bool) -> None:
    """Only StringLike has wildcards, and a wildcard as a variable is literal."""
    conditional = {**statement("Allow", "ec2:A", "*"), "Condition": {operator: {"aws:RequestTag/x": wanted}}}
    assert allows(parse(policy(conditional)), "ec2:A", "i-1", {**ME, "aws:RequestTag/x": value}) is expected


def test_every_condition_of_a_statement_must_fit() -> None:
    keys = {"aws:RequestTag/x": "a", "ec2:CreateAction": ["B", "C"]}
    statements = parse(policy({**statement("Allow", "ec2:A", "*"), "Condition": {"StringEquals": keys}}))
    for tag, cause, expected in (("a", "C", True), ("b", "C", False), ("a", "D", False)):
        given = {**ME, "aws:RequestTag/x": tag, "ec2:CreateAction": cause}
        assert allows(statements, "ec2:A", "i-1", given) is expected
    assert not allows(statements, "ec2:A", "i-1", {**ME, "aws:RequestTag/x": "a"})

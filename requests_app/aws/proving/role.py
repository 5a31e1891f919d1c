"""The one role that the questions are asked on: made for them, harmless, and removed again whatever happens."""

import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from requests_app.aws import iam, probe, sts
from requests_app.aws.errors import AwsError, Refused, Unavailable
from requests_app.domain import narrowing

PATH = "/daypass-prove/"
_TAG = {"Key": "daypass", "Value": "prove"}
_DESCRIPTION = "Made by Daypass (manage.py prove) to ask AWS some questions. It may only list. Delete it at any time."
_POLICIES = ("harmless", "scoping", "ended")
_MOST_TRIES = 5
_PAUSE = 2.0  # seconds


class Roles:
    """IAM as whoever runs this. Everything raises Refused or Unavailable."""

    def __init__(self, region: str) -> None:
        self._iam = sts.own_client("iam", region)

    def make(self, name: str, principal: str) -> str:
        """A role which only `principal` may become, and which may only call `probe.HARMLESS`; its ARN."""
        trust = {"Effect": "Allow", "Principal": {"AWS": principal}, "Action": "sts:AssumeRole"}
        answer = self._ask(
            "create_role",
            RoleName=name,
            Path=PATH,
            Description=_DESCRIPTION,
            Tags=[_TAG],
            AssumeRolePolicyDocument=_document([trust]),
        )
        self.put(name, "harmless", [{"Effect": "Allow", "Action": list(probe.HARMLESS), "Resource": "*"}])
        arn: str = answer["Role"]["Arn"]
        return arn

    def put(self, name: str, policy: str, statements: Sequence[Mapping[str, Any]] | str) -> datetime | None:
        """Write one of the role's inline policies; AWS's clock when it had done so."""
        document = statements if isinstance(statements, str) else _document(statements)
        assert policy in _POLICIES  # noqa: S101 - or it would not be removed where IAM's lists lag behind
        return sts.date_of(self._ask("put_role_policy", RoleName=name, PolicyName=policy, PolicyDocument=document))

    def remove(self, name: str) -> None:
        """Take a role of ours away with all that we gave it. Harmless where there is none."""
        tries = 1
        while True:
            try:
                self._remove(name)
            except AwsError as error:
                # Who may by path may nothing about a role that is not there, for that has none.
                if error.code.startswith("AccessDenied") and name not in self._names():
                    return
                # IAM may not know at once that the policies are gone; and one that is busy may be asked again.
                passing = isinstance(error, Unavailable) or error.code.startswith("DeleteConflict")
                if not passing or tries == _MOST_TRIES:
                    raise
            else:
                return
            tries += 1
            time.sleep(_PAUSE)

    def left_behind(self) -> list[str]:
        """The names of roles that earlier runs left, by their path and their tag."""
        return [name for name in self._names() if self._is_ours(name)]

    def _remove(self, name: str) -> None:
        try:
            listed = self._ask("list_role_policies", RoleName=name)["PolicyNames"]
        except Refused as refused:
            if iam.is_missing(refused):
                return
            raise
        for policy in sorted({*listed, *_POLICIES}):
            self._without_missing("delete_role_policy", RoleName=name, PolicyName=policy)
        self._without_missing("delete_role", RoleName=name)

    def _names(self) -> Iterator[str]:
        page: dict[str, str] = {}
        while True:
            answer = self._ask("list_roles", PathPrefix=PATH, **page)
            yield from (role["RoleName"] for role in answer["Roles"] if role["Path"] == PATH)
            if not answer.get("IsTruncated"):
                return
            page = {"Marker": answer["Marker"]}

    def _is_ours(self, name: str) -> bool:
        try:
            tags = self._ask("list_role_tags", RoleName=name)["Tags"]
        except Refused as refused:
            if iam.is_missing(refused):
                return False
            raise
        return _TAG in tags

    def _without_missing(self, operation: str, **parameters: str) -> None:
        try:
            self._ask(operation, **parameters)
        except Refused as refused:
            if not iam.is_missing(refused):
                raise

    def _ask(self, operation: str, **parameters: Any) -> Mapping[str, Any]:
        answer: Mapping[str, Any] = sts.attempt(lambda: getattr(self._iam, operation)(**parameters))
        return answer


def new_name() -> str:
    return f"daypass-prove-{secrets.token_hex(6)}"


def _document(statements: Sequence[Mapping[str, Any]]) -> str:
    return narrowing.compact({"Version": "2012-10-17", "Statement": list(statements)})

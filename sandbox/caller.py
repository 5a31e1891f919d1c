"""Who speaks to the stand-in for AWS, and with which keys."""

import json
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass, field
from typing import Any

import boto3
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials

REGION = "us-east-1"
IN_REGION = {"AWS_REGION": REGION, "AWS_DEFAULT_REGION": REGION}  # the AWS CLI 1 knows only the second


@dataclass(frozen=True)
class Caller:
    """Somebody with keys for the stand-in; `client("s3")` is an ordinary boto3 client."""

    endpoint: str
    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)

    def client(self, service: str, *, region: str = REGION, checked: bool = True, **options: Any) -> Any:
        """`checked=False` skips botocore's own validation, which refuses sessions under 900 s before AWS can."""
        session = boto3.session.Session(
            self.access_key_id, self.secret_access_key, self.session_token, region_name=region
        )
        config = Config(
            connect_timeout=3,
            read_timeout=10,
            retries={"total_max_attempts": 1},
            parameter_validation=checked,
            **options,
        )
        client = session.client(service, endpoint_url=self.endpoint, config=config)  # type: ignore[call-overload]
        if service == "signin":  # by its own rules it goes to AWS whatever it is told
            client.meta.events.register("before-call.signin", self._send_here)
        return client

    def _send_here(self, params: dict[str, Any], **_: Any) -> None:
        params["url"] = self.endpoint + params["url_path"]

    def post(self, service: str, action: str, *, region: str = REGION, **parameters: str) -> tuple[int, str]:
        """Status and text of a query call, signed as botocore does: for calls that it does not know yet."""
        keys = Credentials(self.access_key_id, self.secret_access_key, self.session_token)
        body = urllib.parse.urlencode({"Action": action, "Version": "2011-06-15", **parameters})
        asked = AWSRequest("POST", f"{self.endpoint}/", {"Content-Type": "application/x-www-form-urlencoded"}, body)
        SigV4Auth(keys, service, region).add_auth(asked)
        request = urllib.request.Request(f"{self.endpoint}/", body.encode(), dict(asked.headers), method="POST")
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as refused:
            with refused:
                return refused.code, refused.read().decode()

    def log_in(self, client_type: str = "CLI", *, region: str = REGION) -> str:
        """A sign-in session, as `aws login` makes one with the console open; its ARN. Raises HTTPError if refused."""
        keys = Credentials(self.access_key_id, self.secret_access_key, self.session_token)
        body = json.dumps({"clientType": client_type})
        asked = AWSRequest("POST", f"{self.endpoint}/sandbox/log-in", {"Content-Type": "application/json"}, body)
        SigV4Auth(keys, "signin", region).add_auth(asked)
        request = urllib.request.Request(
            f"{self.endpoint}/sandbox/log-in", body.encode(), dict(asked.headers), method="POST"
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            return str(json.load(answer)["sessionArn"])

    def environment(self) -> dict[str, str]:
        """What `aws` or any SDK needs in its environment to act as this caller."""
        keys = {"AWS_ACCESS_KEY_ID": self.access_key_id, "AWS_SECRET_ACCESS_KEY": self.secret_access_key}
        token = {"AWS_SESSION_TOKEN": self.session_token} if self.session_token else {}
        return {**keys, **token, "AWS_ENDPOINT_URL": self.endpoint, **IN_REGION}

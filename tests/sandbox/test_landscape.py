"""What a stand-in that is kept has in it, after an upgrade of ours."""

import json

from sandbox import landscape
from sandbox.aws import AwsStandIn


def test_a_kept_stand_in_may_do_what_daypass_needs_today_and_keeps_the_rest(aws_stand_in: AwsStandIn) -> None:
    account = landscape.ACCOUNTS[0]
    root = aws_stand_in.root(account.id)
    iam, s3 = root.client("iam"), root.client("s3")
    of_before = json.dumps({"Version": "2012-10-17", "Statement": [landscape.READ]})
    iam.put_role_policy(RoleName="ReadOnly", PolicyName="permissions", PolicyDocument=of_before)
    iam.delete_role_policy(RoleName=landscape.REVOKER_IN_TARGET, PolicyName="deny-policies")
    s3.create_bucket(Bucket="made-by-somebody")
    try:
        landscape.settle(aws_stand_in)
        permitted = iam.get_role_policy(RoleName="ReadOnly", PolicyName="permissions")["PolicyDocument"]
        assert landscape.MAY_BE_SCOPED in permitted["Statement"]
        assert iam.get_role_policy(RoleName=landscape.REVOKER_IN_TARGET, PolicyName="deny-policies")
        s3.head_bucket(Bucket="made-by-somebody")
    finally:
        s3.delete_bucket(Bucket="made-by-somebody")

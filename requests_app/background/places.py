"""Where IAM is asked about a role, from what a worker took up."""

from requests_app.aws.iam import Place
from requests_app.domain.workflow.preflights import Look
from requests_app.domain.workflow.revocations import Task
from requests_app.domain.workflow.sign_ins import SignInTask

CORRECT_IT = "An operator must correct the role or the account in the catalog."


def place_of(task: Task | SignInTask | Look) -> Place:
    """Raises ValueError, in words, where what the catalog says cannot be a role's address: advise to `CORRECT_IT`."""
    return Place(
        role_arn=task.role_arn,
        revoker_role_arn=task.revoker_role_arn,
        region=task.region,
        installation=task.installation,
        external_id=task.external_id or None,
    )

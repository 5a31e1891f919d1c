from requests_app.domain.models.attempts import Attempts, UsedStep
from requests_app.domain.models.audit import AuditEvent
from requests_app.domain.models.catalog import Account, OrganisationalUnit, Role
from requests_app.domain.models.checks import Identity, OwnSession, Preflight, Trouble
from requests_app.domain.models.deliveries import AwsClock, Delivery, IssuedSession
from requests_app.domain.models.edits import Edit
from requests_app.domain.models.entitlements import (
    Entitlement,
    EntitlementAsker,
    EntitlementGroup,
    EntitlementRole,
    EntitlementUser,
    ExcludedGroup,
    ExcludedUser,
    Stage,
    StageGroup,
    StageMoreGroup,
    StageMoreUser,
    StageUser,
)
from requests_app.domain.models.factors import FactorDemand
from requests_app.domain.models.freezes import Confirmation, Freeze
from requests_app.domain.models.idempotency import IdempotencyKey
from requests_app.domain.models.notices import Notice
from requests_app.domain.models.people import Group, Membership, User
from requests_app.domain.models.requests import AccessRequest, Decision, Extension, Transition
from requests_app.domain.models.revocations import DenyPolicy, Installation, Revocation
from requests_app.domain.models.selectors import RoleSelector

__all__ = [
    "AccessRequest",
    "Account",
    "Attempts",
    "AuditEvent",
    "AwsClock",
    "Confirmation",
    "Decision",
    "Delivery",
    "DenyPolicy",
    "Edit",
    "Entitlement",
    "EntitlementAsker",
    "EntitlementGroup",
    "EntitlementRole",
    "EntitlementUser",
    "ExcludedGroup",
    "ExcludedUser",
    "Extension",
    "FactorDemand",
    "Freeze",
    "Group",
    "IdempotencyKey",
    "Identity",
    "Installation",
    "IssuedSession",
    "Membership",
    "Notice",
    "OrganisationalUnit",
    "OwnSession",
    "Preflight",
    "Revocation",
    "Role",
    "RoleSelector",
    "Stage",
    "StageGroup",
    "StageMoreGroup",
    "StageMoreUser",
    "StageUser",
    "Transition",
    "Trouble",
    "UsedStep",
    "User",
]

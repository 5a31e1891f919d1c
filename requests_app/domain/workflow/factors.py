"""Second factors: what is done about them by itself."""

from django.apps import apps
from django.db import transaction

from requests_app.domain import seeds

BATCH = 100


def seal_old(limit: int = BATCH) -> int:
    """Seal the seeds that were stored before seeds were sealed; returns how many factors had one.

    It ends the sign-ins of whose they are, as a new factor does: the database cannot tell that it is the same.
    """
    authenticators = apps.get_model("mfa", "Authenticator").objects
    open_ones = authenticators.raw(_OPEN, {"sealed": f"{seeds.SEALED}%", "limit": limit})
    sealed = 0
    for key in [found.pk for found in open_ones]:
        with transaction.atomic():
            authenticator = authenticators.select_for_update().get(pk=key)
            for name in ("secret", "seed"):
                if name in authenticator.data:
                    authenticator.data[name] = seeds.seal(seeds.open_sealed(authenticator.data[name]))
            if codes := authenticator.data.get("migrated_codes"):
                authenticator.data["migrated_codes"] = [seeds.seal(seeds.open_sealed(code)) for code in codes]
            authenticator.save(update_fields=["data"])
            sealed += 1
    return sealed


_OPEN = """
SELECT id FROM mfa_authenticator
WHERE data->>'secret' NOT LIKE %(sealed)s OR data->>'seed' NOT LIKE %(sealed)s
   OR data->'migrated_codes'->>0 NOT LIKE %(sealed)s
ORDER BY id LIMIT %(limit)s
"""

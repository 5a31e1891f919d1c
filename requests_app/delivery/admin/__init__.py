"""The admin: operators keep the catalog, the entitlements and the people here; auditors read everything."""

from requests_app.delivery.admin import (
    audit,
    catalog,
    deliveries,
    edits,
    entitlements,
    freezes,
    people,
    requests,
    site,
    units,
)

__all__ = ["audit", "catalog", "deliveries", "edits", "entitlements", "freezes", "people", "requests", "site", "units"]

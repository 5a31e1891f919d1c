"""The admin of entitlements: the form, its inlines, and the page that holds them."""

from requests_app.delivery.admin.entitlements.model_admin import EntitlementAdmin

__all__ = ["EntitlementAdmin"]

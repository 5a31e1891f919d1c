"""A door plate: Django looks here; the admin lives in `delivery/admin/`."""

from requests_app.delivery.admin import *  # noqa: F403

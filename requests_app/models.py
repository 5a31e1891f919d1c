"""A door plate: Django looks here; the models live in `domain/models/`."""

from requests_app.domain.models import *  # noqa: F403

"""The product's settings, with other addresses behind its middleware."""

from portal.settings import *  # noqa: F403
from portal.settings import INSTALLED_APPS

assert INSTALLED_APPS
ROOT_URLCONF = "bench.inside.bare.site"

from django.contrib.staticfiles.storage import HashedFilesMixin
from whitenoise.storage import CompressedManifestStaticFilesStorage  # type: ignore[import-untyped]

_, _IMPORTS = HashedFilesMixin._js_module_import_aggregation_patterns  # type: ignore[attr-defined]


class Storage(CompressedManifestStaticFilesStorage):
    """Names carry hashes, those that our scripts import from each other too: no browser mixes two releases.

    Only for ours: a script that django-htmx carries imports one that is not there.
    """

    patterns = (*CompressedManifestStaticFilesStorage.patterns, ("daypass/*.js", _IMPORTS))

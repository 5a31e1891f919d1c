from whitenoise.storage import CompressedManifestStaticFilesStorage


class Storage(CompressedManifestStaticFilesStorage):
    """Names carry hashes, those that our scripts import from each other too: no browser mixes two releases."""

    support_js_module_import_aggregation = True

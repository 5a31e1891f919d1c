import os
from pathlib import Path

from django.core.wsgi import get_wsgi_application

# Where the web processes count together: what others counted, who are gone, is not ours. Before anything counts.
if folder := os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
    Path(folder).mkdir(parents=True, exist_ok=True)
    for counted in Path(folder).glob("*.db"):
        counted.unlink()

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "portal.settings")
application = get_wsgi_application()

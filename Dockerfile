# One image for every process; docker-compose.yml says which command each runs.

FROM python:3.11-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /venv
COPY requirements.txt .
# Exact versions and hashes: what was tested is what is installed, or the build fails.
RUN /venv/bin/pip install --require-hashes -r requirements.txt

FROM python:3.11-slim-bookworm
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 STATIC_ROOT=/srv/static
RUN useradd --system --uid 10001 --home-dir /nonexistent --shell /usr/sbin/nologin daypass
COPY --from=build /venv /venv
WORKDIR /srv/daypass
COPY manage.py ./
COPY portal portal
COPY requests_app requests_app
COPY templates templates
COPY static static
# Needs settings, but none of them end up in the image: nothing is connected to, nothing is signed.
RUN SECRET_KEY=only-to-collect BASE_URL=https://localhost DATABASE_URL=postgres://none@localhost/none \
    REDIS_URL=redis://localhost python manage.py collectstatic --noinput
# Root owns the code; the process cannot change it. It writes nothing but gunicorn's heartbeat, to /dev/shm.
USER daypass
EXPOSE 8000
# Whether the process answers. Whether PostgreSQL and Redis do is /readyz, for whoever balances the load.
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/livez', timeout=4)"]
CMD ["gunicorn", "--config=python:portal.server", "portal.wsgi", "--bind=0.0.0.0:8000"]

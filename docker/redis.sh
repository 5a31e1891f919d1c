#!/bin/sh
# Redis for Compose. `redis.sh` starts it, the password by standard input so that it is in no process list;
# `redis.sh ping` asks whether it answers.
set -eu
password=${REDIS_PASSWORD:-}
if [ -n "${REDIS_PASSWORD_FILE:-}" ]; then password=$(cat "$REDIS_PASSWORD_FILE"); fi
if [ -z "$password" ]; then
    echo "REDIS_PASSWORD is not set. Give REDIS_PASSWORD, or REDIS_PASSWORD_FILE." >&2
    exit 1
fi
if [ "${1:-}" = ping ]; then
    REDISCLI_AUTH=$password redis-cli ping | grep -q PONG
    exit
fi
# Between quotes redis reads \ and " only when they are escaped.
quoted=$(printf %s "$password" | sed 's/[\\"]/\\&/g')
# The image's own entrypoint, so that it does not stay root.
exec docker-entrypoint.sh redis-server - <<END
requirepass "$quoted"
save ""
appendonly no
END

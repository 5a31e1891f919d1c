#!/bin/sh
# Runs once, when PostgreSQL's volume is new: the two roles, and a database that only they may enter.
set -eu
# $1: a name. Its value, or what the file that NAME_FILE names says.
given() {
    eval "value=\${$1:-}; file=\${$1_FILE:-}"
    if [ -n "$file" ]; then value=$(cat "$file"); fi
    if [ -z "$value" ]; then
        echo "$1 is not set. Give $1, or $1_FILE." >&2
        exit 1
    fi
    printf %s "$value"
}
DATABASE_OWNER_PASSWORD=$(given DATABASE_OWNER_PASSWORD)
DATABASE_APP_PASSWORD=$(given DATABASE_APP_PASSWORD)
export DATABASE_OWNER_PASSWORD DATABASE_APP_PASSWORD
psql --no-psqlrc --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname postgres <<'SQL'
\getenv owner_password DATABASE_OWNER_PASSWORD
\getenv app_password DATABASE_APP_PASSWORD
CREATE ROLE daypass_owner LOGIN PASSWORD :'owner_password';
-- Owns nothing, creates nothing: what it may do with the tables, the migrations grant.
CREATE ROLE daypass_app LOGIN PASSWORD :'app_password';
CREATE DATABASE daypass OWNER daypass_owner;
REVOKE ALL ON DATABASE daypass FROM PUBLIC;
GRANT CONNECT ON DATABASE daypass TO daypass_app;
SQL

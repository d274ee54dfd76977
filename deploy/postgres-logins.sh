#!/bin/sh
# For the postgres image, which runs this once, when its volume is new: a login each for the API and the workers.
# They may do what the role behind them may, and nothing else. All share one password here; yours need not.
set -eu
psql --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" --set ON_ERROR_STOP=1 --set password="$POSTGRES_PASSWORD" <<'SQL'
create role jobplatform_api nologin noinherit;
create role jobplatform_worker nologin noinherit;
create role api login password :'password' in role jobplatform_api;
create role worker login password :'password' in role jobplatform_worker;
SQL

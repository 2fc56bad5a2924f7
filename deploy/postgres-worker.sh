#!/bin/sh
# Runs once, when the database is made: the role that the workers log in as. It owns nothing, so it can neither drop the
# guards of the audit index nor turn them off; `jml db migrate` takes from it what it must not do there.
set -eu
psql --set ON_ERROR_STOP=1 --set password="$(cat /run/secrets/worker_password)" \
  --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" <<'SQL'
CREATE ROLE jml_worker LOGIN PASSWORD :'password';
GRANT USAGE ON SCHEMA public TO jml_worker;
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO jml_worker;
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT USAGE, SELECT ON SEQUENCES TO jml_worker;
SQL

#!/bin/sh
# The postgres image: Debian's PostgreSQL 15 server, with the variables of the official image. The first start makes the cluster.
set -eu
bin=/usr/lib/postgresql/15/bin
data=${PGDATA:-/var/lib/postgresql/data}
user=${POSTGRES_USER:-postgres}
database=${POSTGRES_DB:-$user}
run='setpriv --reuid 999 --regid 999 --clear-groups --inh-caps=-all'

: "${POSTGRES_PASSWORD:?POSTGRES_PASSWORD must be set}"

grep -q ':x:999:' /etc/passwd || echo 'postgres:x:999:999::/var/lib/postgresql:/bin/sh' >>/etc/passwd
mkdir -p "$data" /run/postgresql
chown 999:999 "$data" /run/postgresql
chmod 700 "$data"

if [ ! -s "$data/PG_VERSION" ]; then
  echo "initializing the database cluster"
  umask 077
  printf '%s\n' "$POSTGRES_PASSWORD" >/run/postgresql/password
  chown 999:999 /run/postgresql/password
  $run "$bin/initdb" -D "$data" -U "$user" --pwfile=/run/postgresql/password -E UTF8 --no-locale --auth-local=trust --auth-host=scram-sha-256 --no-sync >/run/postgresql/initdb.log
  rm -f /run/postgresql/password
  echo 'host all all all scram-sha-256' >>"$data/pg_hba.conf"
  if [ "$database" != postgres ]; then
    printf 'CREATE DATABASE "%s" OWNER "%s";\n' "$database" "$user" | $run "$bin/postgres" --single -j -D "$data" postgres >/dev/null
  fi
fi

# Small buffers: this is one of a cluster of pods on one machine.
exec $run "$bin/postgres" -D "$data" -c listen_addresses='*' -c unix_socket_directories=/run/postgresql -c jit=off \
  -c shared_buffers=4MB -c max_connections=20 -c dynamic_shared_memory_type=mmap -c autovacuum=off -c max_wal_senders=0 -c wal_level=minimal

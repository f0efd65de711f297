#!/bin/sh
# The mysql image: Debian's MariaDB server, with the variables of the official image. The first start makes the data directory.
set -eu
data=/var/lib/mysql
run='setpriv --reuid 999 --regid 999 --clear-groups --inh-caps=-all'

: "${MYSQL_ROOT_PASSWORD:?MYSQL_ROOT_PASSWORD must be set}"
quote() { printf '%s' "$1" | sed "s/'/''/g; s/\\\\/\\\\\\\\/g"; }

grep -q ':x:999:' /etc/passwd || echo 'mysql:x:999:999::/var/lib/mysql:/usr/sbin/nologin' >>/etc/passwd
mkdir -p "$data" /run/mysqld
chown 999:999 "$data" /run/mysqld

if [ ! -d "$data/mysql" ]; then
  echo "initializing the data directory"
  $run mariadb-install-db --no-defaults --datadir="$data" --basedir=/usr --skip-test-db --auth-root-authentication-method=normal \
    --innodb-log-file-size=4M --innodb-buffer-pool-size=8M --skip-name-resolve >/tmp/mysql-install.log 2>&1 || { cat /tmp/mysql-install.log; exit 1; }
fi

{
  echo "ALTER USER root@localhost IDENTIFIED BY '$(quote "$MYSQL_ROOT_PASSWORD")';"
  echo "CREATE USER IF NOT EXISTS root@'%' IDENTIFIED BY '$(quote "$MYSQL_ROOT_PASSWORD")';"
  echo "GRANT ALL ON *.* TO root@'%' WITH GRANT OPTION;"
  if [ -n "${MYSQL_DATABASE:-}" ]; then echo "CREATE DATABASE IF NOT EXISTS \`$MYSQL_DATABASE\`;"; fi
  if [ -n "${MYSQL_USER:-}" ]; then
    echo "CREATE USER IF NOT EXISTS '$(quote "$MYSQL_USER")'@'%' IDENTIFIED BY '$(quote "${MYSQL_PASSWORD:-}")';"
    if [ -n "${MYSQL_DATABASE:-}" ]; then echo "GRANT ALL ON \`$MYSQL_DATABASE\`.* TO '$(quote "$MYSQL_USER")'@'%';"; fi
  fi
} >/run/mysqld/init.sql
chown 999:999 /run/mysqld/init.sql
chmod 600 /run/mysqld/init.sql

# Small buffers: this is one of a cluster of pods on one machine.
exec $run /usr/sbin/mariadbd --no-defaults --datadir="$data" --socket=/run/mysqld/mysqld.sock --pid-file=/run/mysqld/mysqld.pid \
  --bind-address=0.0.0.0 --port=3306 --skip-name-resolve --skip-log-bin --performance-schema=OFF --init-file=/run/mysqld/init.sql \
  --innodb-buffer-pool-size=8M --innodb-log-file-size=4M --innodb-log-buffer-size=1M --key-buffer-size=1M \
  --aria-pagecache-buffer-size=1M --table-open-cache=64 --max-connections=50 --thread-cache-size=2

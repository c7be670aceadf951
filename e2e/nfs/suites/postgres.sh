# PostgreSQL with its data on the mount: load, a run, the postmaster and its children killed with -9 under load, recovery, and every
# index and page checked.
bin=$(ls -d /usr/lib/postgresql/*/bin | tail -n 1)
as() { setpriv --reuid postgres --regid postgres --init-groups env HOME=/tmp PATH="$bin:$PATH" PGHOST=/tmp/pg PGDATABASE=postgres "$@"; }
start() { as pg_ctl -D "$PWD/data" -w -t 120 -o "-k /tmp/pg -c listen_addresses='' -c shared_buffers=32MB" -l /tmp/pg/log start; }
install -d -o postgres -g postgres data /tmp/pg
trap 'cat /tmp/pg/log' ERR
as initdb -D "$PWD/data" --data-checksums --no-locale -E UTF8 -A trust >/dev/null
start
as pgbench -i -q -s "${SCALE:-1}"
as pgbench -c 4 -T "${SECONDS_PG:-8}"
# Killed while they write. What a client was told is committed must be there afterwards.
as psql -qAt -c 'create table told (n int primary key)'
(for n in $(seq 100000); do as psql -qAt -c "insert into told values ($n)" 2>/dev/null || exit 0; echo "$n" >/tmp/pg/told; done) &
teller=$!
as pgbench -c 2 -T 600 >/dev/null 2>&1 &
load=$!
until [ -s /tmp/pg/told ] && [ "$(cat /tmp/pg/told)" -ge 3 ]; do sleep 0.1; done
postmaster=$(head -n 1 data/postmaster.pid)
children=$(cat "/proc/$postmaster/task/$postmaster/children")
kill -9 "$postmaster" $children
wait "$teller" "$load" || true
told=$(cat /tmp/pg/told)
remount
start
kept=$(as psql -qAt -c 'select max(n), count(*) from told')
echo "told $told, kept $kept"
[ "${kept%|*}" -ge "$told" ] && [ "${kept%|*}" = "${kept#*|}" ]
sums=$(as psql -qAt -c 'select (select sum(abalance) from pgbench_accounts) = (select sum(bbalance) from pgbench_branches), (select sum(delta) from pgbench_history) = (select sum(tbalance) from pgbench_tellers)')
echo "sums agree: $sums" >&3
as psql -q -c 'create extension if not exists amcheck'
as pg_amcheck --heapallindexed --rootdescend
echo "amcheck ok" >&3
as pg_ctl -D "$PWD/data" -w -m fast stop
as pg_checksums --check -D "$PWD/data" | grep 'Bad checksums' >&3

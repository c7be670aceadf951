# sqlite in each journal mode: four writers at once, a commit per row; then an integrity check and the count of rows.
rows=${ROWS:-15}
writer() { # DATABASE MODE WRITER
  local n
  for n in $(seq "$rows"); do
    # The mode of a rollback journal is the connection's own; a write-ahead log is the database's.
    echo "pragma busy_timeout=60000; pragma journal_mode=$2; insert into t values ('$3', $n, hex(randomblob(300)));"
  done | sqlite3 -bail "$1" >/dev/null
}
for mode in delete truncate persist memory wal off; do
  database=$mode.db
  echo "$mode: $(sqlite3 "$database" "pragma journal_mode=$mode; create table t (writer text, n integer, text text, primary key (writer, n));")" >&3
  pids=()
  for w in 1 2 3 4; do
    # Without a journal writers do take turns by locks, but a statement that fails is not undone: one writer.
    [ "$mode" != off ] || [ "$w" = 1 ] || continue
    writer "$database" "$mode" "$w" &
    pids+=($!)
  done
  for pid in "${pids[@]}"; do wait "$pid"; done
  remount
  echo "$mode: $(sqlite3 "$database" 'pragma integrity_check; select count(*) from t;' | paste -sd' ')" >&3
  [ "$(sqlite3 "$database" 'select count(*) from t;')" = $((rows * ${#pids[@]})) ]
done

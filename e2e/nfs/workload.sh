#!/bin/bash
# workload.sh SERVER PATH OPTIONS REPOSITORY: what the kernel client does in the end-to-end test (runs in the guest kernel).
#
# Mounts exactly as told, then runs three ordinary programs in loops until the host puts the file `stop` into SHARED: git (clone
# and fsck), sqlite (a database with a write-ahead log and one with a rollback journal, a commit at a time), fio (write with checksums,
# read back), beside a detector of pauses. None may see an error, whatever happens to the filers meanwhile. At the end all is
# checked again after a fresh mount, so that the server answers and not a cache.
#
# Files in SHARED: `mounted`, `visit` and `visit-done`, `claim` and `claim-done`, `archive`, `archive-stop` and `archive-done`, `pauses-archive`, `rounds-<program>` (rounds done), `pauses`, `failures` (empty if all is well), `report`.
set -u
server=$1 path=$2 options=$3 repository=$4
home=/mnt/home
work=$home/e2e
stop=$SHARED/stop
export GIT_CONFIG_COUNT=2 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0='*' GIT_CONFIG_KEY_1=gc.auto GIT_CONFIG_VALUE_1=0

fail() { echo "$*" >>"$SHARED/failures"; }
# must WHAT COMMAND...: runs it; its output is only of interest when it fails
must() {
  local what=$1 output
  shift
  output=$("$@" 2>&1) && return 0
  fail "$what: $(tail -n 3 <<<"$output")"
  return 1
}
round() { echo "$2" >"$SHARED/rounds-$1"; }

# What the host asks in the file `visit`: to mount what its first line says, and to run the rest there. The answer: exit status, then what was written.
visit_loop() {
  local server path options status
  until [ -e "$stop" ]; do
    sleep 0.1
    [ -e "$SHARED/visit" ] || continue
    read -r server path options <"$SHARED/visit"
    mkdir -p /mnt/visit
    if mount -t nfs -o "$options" "$server:$path" /mnt/visit; then
      (cd /mnt/visit && tail -n +2 "$SHARED/visit" | bash -eu)
      status=$?
      umount /mnt/visit || status=1
    else status=1; fi >"$SHARED/visited" 2>&1
    rm "$SHARED/visit"
    { echo "$status"; cat "$SHARED/visited"; } >"$SHARED/visit-done.new"
    mv "$SHARED/visit-done.new" "$SHARED/visit-done"
  done
}

git_loop() {
  local n=0
  until [ -e "$stop" ]; do
    n=$((n + 1))
    must "git clone" git clone -q --depth 1 "file://$repository" "$work/clone-$n" || break
    must "git fsck" git -C "$work/clone-$n" fsck --strict || break
    [ "$n" = 1 ] || must "rm -r of an old clone" rm -r "$work/clone-$((n - 1))" || break
    round git "$n"
  done
  echo "$n" >"$SHARED/last-clone"
}

sqlite_loop() { # JOURNAL_MODE
  local database=$work/$1.db n=0
  must "sqlite $1: create" sqlite3 "$database" "pragma journal_mode=$1; create table t (n integer primary key, text text);" || return
  until [ -e "$stop" ]; do
    must "sqlite $1: insert" sqlite3 "$database" \
      "pragma synchronous=full; insert into t values ($((n + 1)), hex(randomblob(200)));" || break
    n=$((n + 1))
    round "sqlite-$1" "$n"
  done
}

fio_loop() {
  local n=0
  until [ -e "$stop" ]; do
    must "fio" fio --name=verify --directory="$work" --filename="fio-$((n % 2))" --size=4M --rw=randwrite --bsrange=512-64k \
      --ioengine=psync --end_fsync=1 --verify=crc32c --verify_fatal=1 --do_verify=1 --randrepeat=0 --allow_file_create=1 || break
    n=$((n + 1))
    round fio "$n"
  done
}

# The line of a PersistentVolume, when the host hands it over: mounted as it is, written and read through.
claim_mount() {
  local server path options
  until [ -e "$SHARED/claim" ]; do
    [ ! -e "$stop" ] || return 0
    sleep 0.2
  done
  read -r server path options <"$SHARED/claim"
  mkdir -p /mnt/claim
  must "mount of the claim" mount -t nfs -o "$options" "$server:$path" /mnt/claim || return
  must "write to the claim" sh -c 'head -c 4000000 /dev/urandom | tee /tmp/written >/mnt/claim/e2e/claim && sync /mnt/claim/e2e/claim' || return
  echo 3 >/proc/sys/vm/drop_caches
  must "read from the claim" cmp /tmp/written /mnt/claim/e2e/claim || return
  must "umount of the claim" umount /mnt/claim || return
  touch "$SHARED/claim-done"
}

# A second volume, when the host hands it over: files stay open on it, are appended to, read and renamed beside a detector of pauses, until the host says that it is enough. Then
# everything is compared, the second time after a fresh mount.
archive_loop() {
  local server path options n=0 archive=/mnt/archive
  until [ -e "$SHARED/archive" ]; do
    [ ! -e "$stop" ] || return 0
    sleep 0.2
  done
  read -r server path options <"$SHARED/archive"
  mkdir -p "$archive"
  must "mount of the archive" mount -t nfs -o "$options" "$server:$path" "$archive" || return
  must "git clone into the archive" git clone -q --depth 1 "file://$repository" "$archive/clone" || return
  must "write to the archive" sh -c "head -c 8000000 /dev/urandom | tee /tmp/large >$archive/large && sync $archive/large" || return
  "$SHARED/pauses-program" "$archive/pauses" "$SHARED/pauses-archive" "$SHARED/archive-stop" &
  exec 5>>"$archive/lines" 6<"$archive/large"
  until [ -e "$SHARED/archive-stop" ] || [ -e "$stop" ]; do
    n=$((n + 1))
    echo "line $n" >&5 || { fail "a line of the archive was not written"; break; }
    must "sync of an open file" sync /proc/self/fd/5 || break
    echo 3 >/proc/sys/vm/drop_caches
    must "an open file is read" cmp /tmp/large /proc/self/fd/6 || break
    must "a file is replaced" sh -c "echo $n >$archive/new && mv $archive/new $archive/last" || break
    round archive "$n"
  done
  exec 5>&- 6<&-
  touch "$SHARED/archive-stop"
  wait
  archive_whole "$n"
  must "umount of the archive" umount "$archive" || return
  must "mount of the archive" mount -t nfs -o "$options" "$server:$path" "$archive" || return
  archive_whole "$n"
  must "umount of the archive" umount "$archive"
  if grep -q error "$SHARED/pauses-archive"; then fail "a write of the archive's pause detector failed"; fi
  touch "$SHARED/archive-done"
}
archive_whole() { # LINES
  must "large file of the archive" cmp /tmp/large "$archive/large"
  must "git fsck of the archive" git -C "$archive/clone" fsck --strict
  must "git status of the archive" git -C "$archive/clone" diff --quiet HEAD
  must "lines of the archive" test "$(wc -l <"$archive/lines")" = "$1"
  must "last line of the archive" test "$(tail -n 1 "$archive/lines")" = "line $1"
  must "replaced file of the archive" test "$(cat "$archive/last")" = "$1"
}

mount_home() { must "mount" mount -t nfs -o "$options" "$server:$path" "$home"; }

: >"$SHARED/failures"
mkdir -p "$home"
mount_home || exit 1
mkdir -p "$work" || { fail "mkdir $work"; exit 1; }
touch "$SHARED/mounted"
"$SHARED/pauses-program" "$work/pauses" "$SHARED/pauses" "$stop" &
git_loop &
sqlite_loop wal &
sqlite_loop delete &
fio_loop &
claim_mount &
archive_loop &
visit_loop &
wait

# Everything once more, from the server.
must "sync" sync
must "umount" umount "$home"
mount_home || exit 1
for mode in wal delete; do
  found=$(sqlite3 "$work/$mode.db" 'pragma integrity_check; select count(*) from t;' 2>&1 | paste -sd' ')
  rows=$(cat "$SHARED/rounds-sqlite-$mode" 2>/dev/null || echo 0)
  [ "$found" = "ok $rows" ] || fail "sqlite $mode: '$found', expected 'ok $rows'"
done
must "git fsck at the end" git -C "$work/clone-$(cat "$SHARED/last-clone")" fsck --strict
must "git status at the end" git -C "$work/clone-$(cat "$SHARED/last-clone")" diff --quiet HEAD
if grep -q error "$SHARED/pauses"; then fail "a write of the pause detector failed: $(grep error "$SHARED/pauses" | head -n 1)"; fi
must "umount at the end" umount "$home"
[ ! -s "$SHARED/failures" ]

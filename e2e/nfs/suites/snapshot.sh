# A snapshot, as a kernel client finds it: a mount of its own beneath, with the content of then, for reading only, into which nothing
# descends that was not told to; and stale when it is deleted. The host makes it when it sees `snapshot-wanted`, deletes it at
# `snapshot-unwanted`.
"$BIN/tree" before 300
cp -a before kept
sync
touch "$OUT/snapshot-wanted"
until [ -e "$OUT/snapshot-made" ]; do sleep 0.1; done
snapshot=$MOUNT/.snapshot/first
folder=$snapshot/$suite
rm -r before/d0/e0
echo later >kept/later
remount
[ "$(ls -A "$MOUNT" | grep -c '^\.snapshot$')" = 0 ]
[ "$(ls "$MOUNT/.snapshot")" = first ]
diff -r --no-dereference "$folder/before" "$folder/kept"
[ ! -e "$folder/kept/later" ]
[ ! -e before/d0/e0 ]
# A file system of its own: the same inode numbers on another device.
[ "$(stat -c %i "$folder/kept")" = "$(stat -c %i kept)" ]
[ "$(stat -c %d "$folder/kept")" != "$(stat -c %d kept)" ]
[ "$(find "$MOUNT" -path "*/.snapshot*" | wc -l)" = 0 ]
rsync -aHn --itemize-changes "$MOUNT/" /tmp/empty-copy/ >/tmp/listed
! grep -q '\.snapshot' /tmp/listed
for change in "touch $folder/new" "rm $folder/kept/d0/e0/file-0" "mkdir $MOUNT/.snapshot/other" "rmdir $snapshot"; do
  ! output=$($change 2>&1)
  grep -q 'Read-only file system\|Device or resource busy' <<<"$output"
done
rm -r before kept
cp -a "$folder/before" back
remount
diff -r --no-dereference "$folder/before" back
exec 8<"$folder/before/d0/e0/file-2" 9<"$folder"
touch "$OUT/snapshot-unwanted"
until [ -e "$OUT/snapshot-gone" ]; do sleep 0.1; done
# Opening asks the server again, whatever the client remembers of attributes.
! output=$(ls /proc/self/fd/9/ 2>&1)
grep -q 'Stale file handle' <<<"$output"
exec 8<&- 9<&-

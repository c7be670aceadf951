# The serving filer is killed in the middle of a tar, and the one that took over in the middle of removing the copy: the programs see
# nothing of it (a repeated REMOVE that answered NOENT would be an error of rm), and the copy is the same. The host kills when it
# sees `tar-goes` and `rm-goes`.
. "$SHARED/suites/tree-lib.sh"
mkdir tar
tar -C "$tree" -cf - . | tar -C tar -xvpf - >"$OUT/extracted" &
copy=$!
until [ "$(wc -l <"$OUT/extracted")" -gt $((FILES / 4)) ]; do sleep 0.1; done
touch "$OUT/tar-goes"
wait "$copy"
[ -e "$OUT/killed-first" ]
remount
same tar
until [ -e "$OUT/redundant" ]; do sleep 0.1; done
rm -rv tar >"$OUT/removed" &
removal=$!
until [ "$(wc -l <"$OUT/removed")" -gt $((FILES / 4)) ]; do sleep 0.1; done
touch "$OUT/rm-goes"
wait "$removal"
[ -e "$OUT/killed-second" ]
[ -z "$(ls -A)" ]

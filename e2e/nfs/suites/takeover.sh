# The serving filer is killed in the middle of a tar: the program sees nothing of it, and the copy is the same.
. "$SHARED/suites/tree-lib.sh"
mkdir tar
(
  # The host kills as soon as it sees this file.
  until [ "$(find tar -type f | wc -l)" -gt $((FILES / 5)) ]; do sleep 0.2; done
  touch "$OUT/tar-goes"
) &
tar -C "$tree" -cf - . | tar -C tar -xpf -
wait
until [ -e "$OUT/killed" ]; do sleep 0.1; done
remount
same tar
rm -r tar

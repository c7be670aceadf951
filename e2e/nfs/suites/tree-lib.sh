# The tree that is copied, in the guest's memory, and what makes a copy the same.
tree=/tmp/tree
[ -e "$tree" ] || "$BIN/tree" "$tree" "$FILES"
same() { # COPY: its content; and what rsync can tell: types, modes, owners, times, links
  diff -r --no-dereference "$tree" "$1"
  rsync -aHin --delete "$tree/" "$1/" >"$OUT/differences"
  [ ! -s "$OUT/differences" ] || { head -n 50 "$OUT/differences"; return 1; }
}

# A tree of FILES files through tar and rsync, compared after a fresh mount, and removed.
. "$SHARED/suites/tree-lib.sh"
mkdir tar rsync
tar -C "$tree" -cf - . | tar -C tar -xpf -
remount
same tar
rsync -aH "$tree/" rsync/
remount
same rsync
echo "files $(find rsync -type f | wc -l), all $(find rsync | wc -l)" >&3
rm -r tar rsync
echo "left $(ls -A | wc -l)" >&3

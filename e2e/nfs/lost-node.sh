#!/bin/bash
# lost-node.sh SERVER PATH OPTIONS: the client of e2e/lost-node.ts (runs in the guest kernel). Mounts exactly as told, writes through to the
# server all the time (pauses.c), and large files with a COMMIT each until `quiet` is in SHARED; ends when `stop` is there.
#
# Files in SHARED: `mounted`; `pauses`; `large`, how many large files were written.
set -u
server=$1 path=$2 options=$3
mkdir -p /mnt/nfs && mount -t nfs -o "$options" "$server:$path" /mnt/nfs || exit 1
touch "$SHARED/mounted"
"$SHARED/pauses-program" /mnt/nfs/pauses "$SHARED/pauses" "$SHARED/stop" &
(
  n=0
  until [ -e "$SHARED/quiet" ] || [ -e "$SHARED/stop" ]; do
    dd if=/dev/zero of=/mnt/nfs/large bs=1M count=16 conv=fsync status=none || exit 1
    n=$((n + 1))
    echo "$n" >"$SHARED/large"
  done
) &
wait

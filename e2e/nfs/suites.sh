#!/bin/bash
# suites.sh SIDE SERVER PATH OPTIONS [NAME=VALUE...] SUITE...: programs on an NFS mount, in the guest kernel; see e2e/kernel.ts.
#
# Mounts SERVER:PATH exactly as told and, with these variables in the environment, runs each suite (SHARED/suites/SUITE.sh) in a folder of its own there. SIDE is `tandem`, or
# `knfsd`: then the guest first serves an XFS of its own (on /dev/ubda) by the kernel's own NFS server over its loopback, as the
# reference: same kernel, same client, another server.
#
# A suite runs with `set -eux`, in its folder. Its exit status is its verdict; on descriptor 3 it writes facts, which the host
# compares between the sides. It leaves SHARED/SIDE/SUITE.log, SUITE.facts, and a line `SUITE STATUS SECONDS` in SHARED/SIDE/results.
set -u
side=$1 server=$2 path=$3 options=$4
shift 4
export SIDE=$side OUT=$SHARED/$side MOUNT=/mnt/nfs BIN=$SHARED/bin
mkdir -p "$OUT" "$MOUNT"

serve_by_kernel() {
  # Debian's configuration has rpc.mountd ask this machine for a caller's groups; callers name them themselves here.
  mount --bind /dev/null /etc/nfs.conf || return 1
  mkfs.xfs -q -f /dev/ubda && mkdir -p /mnt/export && mount /dev/ubda /mnt/export || return 1
  mkdir -p /run/sendsigs.omit.d /run/rpcbind /var/lib/nfs/sm /var/lib/nfs/v4recovery
  touch /var/lib/nfs/etab /var/lib/nfs/rmtab
  modprobe --dirname /tmp/modules nfsd && mount -t nfsd nfsd /proc/fs/nfsd || return 1
  rpcbind -w || return 1
  exportfs -i -o rw,no_root_squash,no_subtree_check,insecure,fsid=1 "127.0.0.1:/mnt/export" || return 1
  rpc.nfsd --no-udp -N 4 2 && rpc.mountd -N 4 -p 20048
}

# The same mount after the client has forgotten everything: what is read next comes from the server.
remount() {
  cd /
  sync
  umount "$MOUNT" && mount -t nfs -o "$options" "$server:$path" "$MOUNT" && cd "$MOUNT/$suite"
}
export -f remount
export server path options suite=.

if [ "$side" = knfsd ] && ! serve_by_kernel; then
  echo "the kernel's NFS server did not start"
  exit 1
fi
mount -t nfs -o "$options" "$server:$path" "$MOUNT" || exit 1
: >"$OUT/results"
failed=0
for suite; do
  case $suite in *=*)
    export "${suite?}"
    continue
    ;;
  esac
  mkdir -p "$MOUNT/$suite" || exit 1
  began=${EPOCHREALTIME/./}
  (PS4='+ $SECONDS s '; set -eux; cd "$MOUNT/$suite"; . "$SHARED/suites/$suite.sh") >"$OUT/$suite.log" 2>&1 3>"$OUT/$suite.facts"
  status=$?
  [ "$status" = 0 ] || failed=1
  echo "$suite $status $(((${EPOCHREALTIME/./} - began) / 1000))" >>"$OUT/results"
  [ "$status" != 0 ] || rm -rf "${MOUNT:?}/$suite"
done
umount "$MOUNT" || exit 1
exit $failed

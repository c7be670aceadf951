#!/bin/bash
# kernel-client.sh INIT_PID SHARED SCRIPT [ARGUMENT...]
# Runs SCRIPT in a Linux 6.1 kernel of its own (Debian's user-mode-linux), whose network card is tap0 in the network namespace
# of process INIT_PID (the test cluster's control plane, for one; its address there is 10.78.0.1, the guest's 10.78.0.2). So the real
# kernel NFS client is tested on machines whose own kernel has none. Boots in about 2 s; one processor, slow system calls:
# it judges correctness and pauses, not speed.
#
# The guest's root is this machine's /, read-only; SHARED is the one folder that it can write: scripts leave their results
# there. SCRIPT sees SHARED in the environment. Exit status: the script's. From the environment: GUEST_MEMORY (768M), and GUEST_DISK, a
# file that is the guest's /dev/ubda.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
init=$1 shared=$(readlink -f "$2") script=$(readlink -f "$3")
shift 3
rm -f "$shared/status"
cp "$script" "$shared/script" # the guest's /tmp is its own: a script of a checkout in /tmp would be hidden
printf '%q ' "$shared/script" "$@" >"$shared/command"
# A process namespace of its own, which the kernel ends with this script: the guest's programs are processes of this machine.
# Memory of the guest is a file: in /dev/shm, or a slow disk slows it down.
nsenter -t "$init" -n \
  setpriv --pdeathsig KILL unshare --mount --pid --fork --kill-child=KILL --mount-proc \
  env TMPDIR=/dev/shm /usr/bin/linux.uml mem="${GUEST_MEMORY:-768M}" ${GUEST_DISK:+ubda="$GUEST_DISK"} \
  root=none rootfstype=hostfs hostfs=/ rootflags=/ ro init="$here/guest-init.sh" SHARED="$shared" \
  vec0:transport=tap,ifname=tap0,depth=128,gro=1 con=null con0=null,fd:1 quiet </dev/null || true
exit "$(cat "$shared/status" 2>/dev/null || echo 125)"

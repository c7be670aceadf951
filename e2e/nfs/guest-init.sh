#!/bin/bash
# Process 1 of the guest kernel (see kernel-client.sh): mounts what programs expect, brings the network up, runs the command
# in SHARED/command, leaves its exit status in SHARED/status, and switches the machine off.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/tmp LANG=C
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tmpfs run /run
mount -t tmpfs tmp /tmp
mount -t tmpfs mnt /mnt
mount -t tmpfs state /var/lib/nfs 2>/dev/null
mount -t devtmpfs dev /dev 2>/dev/null
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts 2>/dev/null
mount -t tmpfs shm /dev/shm
[ -e /dev/fd ] || ln -s /proc/self/fd /dev/fd
SHARED=$(tr ' ' '\n' </proc/cmdline | sed -n 's/^SHARED=//p')
export SHARED
# A folder below /tmp is hidden by our own /tmp: made again, then mounted from the machine.
mkdir -p "$SHARED"
mount -t hostfs none "$SHARED" -o "$SHARED"
mkdir -p /tmp/modules/lib
ln -s /usr/lib/uml/modules /tmp/modules/lib/modules
modprobe --dirname /tmp/modules nfsv3
ip link set lo up
ip addr add 10.78.0.2/24 dev vec0
ip link set vec0 up
ip route add default via 10.78.0.1
echo "guest: Linux $(uname -r) is up"
bash -c "$(cat "$SHARED/command")"
echo $? >"$SHARED/status"
sync
echo o >/proc/sysrq-trigger
sleep 5

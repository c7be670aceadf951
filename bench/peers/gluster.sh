#!/bin/bash
# gluster.sh FOLDER: GlusterFS, one volume with replica 2 on two servers, mounted by FUSE at FOLDER/mount (in this mount
# namespace); prints `mounted`, and runs until it is killed.
# The servers live in two network namespaces joined by a virtual cable, each with /var/lib/glusterd, /var/log and /run of its
# own; the client runs beside the first server. To be run in network, mount and process namespaces of its own (peers.ts does).
set -euo pipefail
folder=$1
server() { # INDEX: one glusterd in the namespaces that this is run in
  local own=$folder/$1
  mkdir -p "$own"/{lib,log,run/gluster,brick} /var/lib/glusterd /var/log/glusterfs
  mount --bind "$own/lib" /var/lib/glusterd
  mount --bind "$own/log" /var/log/glusterfs
  mount --bind "$own/run" /run
  exec glusterd -N -p /run/glusterd.pid
}
if [ "${2:-}" = server ]; then
  ip link set lo up
  until ip link show cable2 >/dev/null 2>&1; do sleep 0.05; done
  ip addr add 10.77.0.2/24 dev cable2
  ip link set cable2 up
  server 2
fi

ip link set lo up
mkdir -p "$folder/mount" "$folder"/1/{lib,log,run} # bound below, perhaps before the first server is up
unshare --net --mount --propagation private "$0" "$folder" server >"$folder/server2.log" 2>&1 </dev/null &
second=$!
until [ "$(readlink /proc/$second/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.02; done
ip link add cable1 type veth peer name cable2 netns "$second"
ip addr add 10.77.0.1/24 dev cable1
ip link set cable1 up
(server 1) >"$folder/server1.log" 2>&1 </dev/null &

# The command line client needs the first server's /run and /var/lib/glusterd.
mkdir -p /var/lib/glusterd /var/log/glusterfs
mount --bind "$folder/1/log" /var/log/glusterfs
mount --bind "$folder/1/run" /run
mount --bind "$folder/1/lib" /var/lib/glusterd
gluster() { command gluster --mode=script "$@"; }
retry() {
  for _ in $(seq 150); do
    if "$@" >"$folder/retry.log" 2>&1; then return 0; fi
    sleep 0.2
  done
  cat "$folder/retry.log"
  return 1
}
retry gluster peer probe 10.77.0.2
retry sh -c "gluster --mode=script peer status | grep -q 'Peer in Cluster (Connected)'"
retry gluster volume create data replica 2 "10.77.0.1:$folder/1/brick" "10.77.0.2:$folder/2/brick" force
retry gluster volume start data
retry mount -t glusterfs 10.77.0.1:/data "$folder/mount"
echo mounted
wait

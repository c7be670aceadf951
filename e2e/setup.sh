#!/bin/bash
# setup.sh PART...: installs and builds what the parts of `make test` need. Parts: check demo crash chaos kernel api e2e bench.
#
# Packages come from the machine's own Debian (or Ubuntu) lists with apt-get, and only those that are missing; every
# installation is announced. Programs that no package brings are built once into the cache, outside the checkout:
#   ${TANDEM_CACHE:-$HOME/.cache/tandem}/kubernetes   Kubernetes 1.20.2 and the pause image
# Without root this script installs nothing: it says which packages are missing and fails.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
export TANDEM_CACHE=${TANDEM_CACHE:-$HOME/.cache/tandem}

say() { echo "setup: $*"; }

# need PACKAGE...: makes sure that these packages are installed.
need() {
  local missing=() package
  for package; do
    [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    say "these packages are missing; install them (as root: apt-get install ${missing[*]}) and run again"
    exit 1
  fi
  say "apt-get install ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 # RUNLEVEL=1: packages that bring a daemon do not start it
  local log=$TANDEM_CACHE/apt.log
  mkdir -p "$TANDEM_CACHE"
  if ! { apt-get update -qq && apt-get install -y --no-install-recommends "${missing[@]}"; } >"$log" 2>&1 </dev/null; then
    tail -n 20 "$log"
    say "apt-get failed; the whole output is in $log"
    exit 1
  fi
}

# Parts that need Node and npm only.
setup_check() { :; }
setup_demo() { :; }
setup_crash() { :; }
setup_chaos() { :; }
setup_commands() { :; }
setup_ring() { :; }

# A real API server: etcd and kube-apiserver on this machine's loopback.
setup_api() {
  need etcd-server openssl curl prometheus # of which only promtool is run
  if ! "$here/kubernetes/build.sh" --built; then
    need golang-1.19-go golang-github-modern-go-reflect2-dev curl
    say "building Kubernetes 1.20.2 (once, about 11 minutes on 2 cores, 3.5 GB)"
    "$here/kubernetes/build.sh"
  fi
}

# A Linux kernel of its own as NFS client, and as NFS server to compare with; no Kubernetes.
setup_kernel() {
  need iproute2 iptables util-linux gcc libc6-dev user-mode-linux kmod nfs-common nfs-kernel-server rpcbind xfsprogs git sqlite3 fio rsync \
    postgresql procps
}

# A two-node cluster with real pods, and a Linux kernel of its own as NFS client.
setup_e2e() {
  setup_api
  need containerd runc containernetworking-plugins iptables conntrack iproute2 ethtool util-linux gcc libc6-dev \
    user-mode-linux kmod nfs-common git sqlite3 fio procps
  "$here/image/pause.sh"
}

# The peers beside which we measure, and the load generator's library.
setup_bench() {
  need nfs-ganesha nfs-ganesha-vfs rpcbind dbus glusterfs-server glusterfs-client fio gcc libc6-dev libnfs-dev iproute2 \
    util-linux procps
}

for part; do
  if ! declare -F "setup_$part" >/dev/null; then
    say "no such part: $part"
    exit 2
  fi
  "setup_$part"
done

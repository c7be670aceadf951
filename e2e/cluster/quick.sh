#!/bin/bash
# quick.sh up DIR [PORT]     etcd and kube-apiserver on 127.0.0.1, ready in about 5 s; kubeconfig: DIR/pki/admin.kubeconfig
# quick.sh down DIR          ends both and removes DIR
# quick.sh run DIR [PORT]    up, then waits until standard input is closed, then down: nothing outlives who started it
#
# PORT and the two after it are used (default 16443). For tests of the operator against a real API server; there are no
# nodes, no controllers and no scheduler. The programs are e2e/kubernetes/build.sh's, or those of KUBEBUILDER_ASSETS
# (controller-runtime's envtest) when that is set.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
bin=${KUBEBUILDER_ASSETS:-${TANDEM_CACHE:-$HOME/.cache/tandem}/kubernetes/bin}
PATH=$bin:$PATH
verb=$1 dir=$2 port=${3:-16443}

# start NAME COMMAND...: in the background, output to DIR/NAME.log, process number to DIR/NAME.pid
start() {
  local name=$1
  shift
  "$@" >"$dir/$name.log" 2>&1 </dev/null &
  echo $! >"$dir/$name.pid"
}

# alive NAME: the process that we started still runs (and its number was not given to another)
alive() {
  local pid
  { pid=$(cat "$dir/$1.pid") && tr '\0' ' ' <"/proc/$pid/cmdline" | grep -q "$1"; } 2>/dev/null
}

up() {
  mkdir -p "$dir"
  dir=$(readlink -f "$dir")
  local pki=$dir/pki peers=http://127.0.0.1:$((port + 2)) clients=http://127.0.0.1:$((port + 1))
  "$here/pki.sh" "$pki" "https://127.0.0.1:$port" DNS:localhost,IP:127.0.0.1,DNS:kubernetes.default.svc
  # etcd flushes after every write: its data belongs into memory, or a slow disk is what gets tested
  mktemp -d /dev/shm/tandem-etcd.XXXXXX >"$dir/etcd.data"
  start etcd etcd --name test --data-dir "$(cat "$dir/etcd.data")" --log-level error \
    --listen-client-urls "$clients" --advertise-client-urls "$clients" \
    --listen-peer-urls "$peers" --initial-advertise-peer-urls "$peers" --initial-cluster "test=$peers"
  start kube-apiserver kube-apiserver --etcd-servers="$clients" \
    --bind-address=127.0.0.1 --secure-port="$port" --advertise-address=127.0.0.1 --endpoint-reconciler-type=none \
    --client-ca-file="$pki/ca.crt" --tls-cert-file="$pki/apiserver.crt" --tls-private-key-file="$pki/apiserver.key" \
    --service-account-key-file="$pki/sa.pub" --service-account-signing-key-file="$pki/sa.key" \
    --service-account-issuer=https://kubernetes.default.svc --service-cluster-ip-range=10.96.0.0/16 \
    --authorization-mode=RBAC --allow-privileged=true --disable-admission-plugins=ServiceAccount
  for _ in $(seq 600); do
    ! ready || return 0
    for program in etcd kube-apiserver; do
      alive "$program" || { tail -n 20 "$dir/$program.log" >&2; echo "quick: $program ended" >&2; return 1; }
    done
    sleep 0.05
  done
  echo "quick: the API server is not ready after 30 s; see $dir/kube-apiserver.log" >&2
  return 1
}

ready() {
  curl -fs --cacert "$dir/pki/ca.crt" --cert "$dir/pki/admin.crt" --key "$dir/pki/admin.key" \
    "https://127.0.0.1:$port/readyz" >/dev/null
}

down() {
  local program
  for program in kube-apiserver etcd; do
    ! alive "$program" || kill "$(cat "$dir/$program.pid")"
  done
  for _ in $(seq 100); do
    alive kube-apiserver || alive etcd || break
    sleep 0.05
  done
  for program in kube-apiserver etcd; do
    ! alive "$program" || kill -9 "$(cat "$dir/$program.pid")"
  done
  [ ! -f "$dir/etcd.data" ] || rm -rf "$(cat "$dir/etcd.data")"
  rm -rf "$dir"
}

case $verb in
  up) up || { down; exit 1; } ;;
  down) down ;;
  run)
    trap 'exit 143' TERM INT
    trap down EXIT
    up
    echo ready
    cat >/dev/null # until whoever holds the other end closes it, or dies
    ;;
  *)
    sed -n '2,4s/^# //p' "$0"
    exit 2
    ;;
esac

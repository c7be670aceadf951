#!/bin/bash
# node.sh INDEX: one node: containerd, kubelet and kube-proxy, in the namespaces that control-plane.sh made for it.
# Each node has its own /var/lib/kubelet, /var/log/pods, /var/lib/cni, /etc/cni/net.d and /run/containerd, mounted from
# STATE/node<INDEX>/root, and its own cgroup; nothing of the machine's is written.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
index=$1 name=node$1 address=10.10.0.$1
pki=$STATE/pki work=$STATE/node$1
cgroup=tandem-$(basename "$STATE")-$name
mkdir -p "$work"
mount --make-rshared /

network() {
  ip link set lo up
  until ip link show eth0 >/dev/null 2>&1; do sleep 0.05; done
  ip addr add "$address/24" dev eth0
  ip link set eth0 up
  # Pods join a bridge of the network's name, whose uplink leads to the other nodes.
  local network
  for network in storage1 storage2; do
    ip link set "$network" name "$network-up"
    ip link add "$network" type bridge
    ip link set "$network-up" master "$network" up
    ip link set "$network" up
  done
  local other
  for other in $(seq "$NODES"); do
    [ "$other" = "$index" ] || ip route add "10.244.$other.0/24" via "10.10.0.$other"
  done
  # No default route: with one, the kubelet spends seconds asking for a cloud's metadata service.
  ip route add 10.96.0.0/16 dev eth0
  ip route add 10.78.0.0/24 via 10.10.0.254
  echo 1 >/proc/sys/net/ipv4/ip_forward
  echo 1 >/proc/sys/net/bridge/bridge-nf-call-iptables 2>/dev/null || true
}

folders() {
  local path
  for path in var/lib/kubelet var/log/pods var/log/containers var/lib/cni etc/cni/net.d run/containerd; do
    mkdir -p "$work/root/$path" "/$path"
    mount --bind "$work/root/$path" "/$path"
  done
  mount --make-rshared /var/lib/kubelet
  printf 'nameserver 10.96.0.10\n' >"$work/resolv.conf"
}

cgroups() {
  local root=/sys/fs/cgroup controller
  if [ -f "$root/cgroup.controllers" ]; then # version 2
    sed 's/\([a-z]\+\)/+\1/g' "$root/cgroup.controllers" >"$root/cgroup.subtree_control" || true
    mkdir -p "$root/$cgroup"
    echo 2000 >"$root/$cgroup/cpu.weight"
    return
  fi
  for controller in cpu cpuacct cpuset memory devices freezer blkio pids systemd; do
    [ ! -d "$root/$controller" ] || mkdir -p "$root/$controller/$cgroup"
  done
  local file
  for file in cpuset.cpus cpuset.mems; do cat "$root/cpuset/$file" >"$root/cpuset/$cgroup/$file"; done
  # A node is a machine of its own: its pods do not compete as equals with whatever else runs here.
  echo 16384 >"$root/cpu/$cgroup/cpu.shares"
}

cni() {
  mkdir -p "$work/cni"
  cp /usr/lib/cni/* "$work/cni/"
  printf '#!/bin/sh\nexec "%s" "%s/cni/multinet.ts"\n' "$NODE24" "$here" >"$work/cni/multinet"
  chmod +x "$work/cni/multinet"
  sed "s,@NODE@,$index,g; s,@KUBECONFIG@,$pki/admin.kubeconfig," "$here/cni/pods.conflist" >/etc/cni/net.d/10-pods.conflist
}

containerd_config() {
  cat <<TOML
version = 2
root = "$work/containerd/root"
state = "$work/containerd/state"
[grpc]
  address = "$work/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/pause:3.2"
  stream_server_address = "127.0.0.1"
  disable_apparmor = true
  restrict_oom_score_adj = true
  device_ownership_from_security_context = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "$work/cni"
    conf_dir = "/etc/cni/net.d"
TOML
}

kubelet_config() {
  cat <<YAML
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $pki/ca.crt}}
authorization: {mode: Webhook}
tlsCertFile: $pki/kubelet-$name.crt
tlsPrivateKeyFile: $pki/kubelet-$name.key
cgroupDriver: cgroupfs
cgroupRoot: /$cgroup
failSwapOn: false
clusterDNS: [10.96.0.10]
clusterDomain: cluster.local
resolvConf: $work/resolv.conf
imageGCHighThresholdPercent: 100
evictionHard: {memory.available: 100Mi, nodefs.available: "1%", imagefs.available: "1%"}
nodeStatusUpdateFrequency: 5s
syncFrequency: 10s
YAML
}

# keep NAME COMMAND...: runs it for ever, restarting it when it ends; output to STATE/node<INDEX>/NAME.log
keep() {
  local program=$1
  shift
  (while :; do "$@" || true; sleep 0.5; done) >"$work/$program.log" 2>&1 </dev/null &
}

network
folders
cgroups
cni
containerd_config >"$work/containerd.toml"
kubelet_config >"$work/kubelet.yaml"
keep containerd containerd -c "$work/containerd.toml"
until [ -S "$work/containerd.sock" ]; do sleep 0.05; done
until curl -fs --cacert "$pki/ca.crt" --cert "$pki/admin.crt" --key "$pki/admin.key" https://10.10.0.254:6443/readyz >/dev/null; do
  sleep 0.05
done
keep kubelet "$BIN/kubelet" --config="$work/kubelet.yaml" --kubeconfig="$pki/kubelet-$name.kubeconfig" \
  --hostname-override="$name" --node-ip="$address" --container-runtime=remote \
  --container-runtime-endpoint="unix://$work/containerd.sock" --v=2
keep kube-proxy "$BIN/kube-proxy" --kubeconfig="$pki/kube-proxy.kubeconfig" --proxy-mode=iptables \
  --cluster-cidr=10.244.0.0/16 --hostname-override="$name" --conntrack-max-per-core=0 \
  --conntrack-tcp-timeout-established=0s --conntrack-tcp-timeout-close-wait=0s
wait

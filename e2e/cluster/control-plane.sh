#!/bin/bash
# Process 1 of the cluster's namespaces (network, mount, process): the control plane, and one nested pair of namespaces
# (network, mount) for every node. e2e/cluster/cluster.ts starts it; when it dies the kernel ends everything in it.
# Environment: STATE (folder of all state), NODES (how many), BIN (Kubernetes' programs), NODE24 (the Node to run ours with).
#
# Networks, all bridges in this namespace, so that the link of every node can be cut from here:
#   nodes      10.10.0.0/24   nodes, control plane .254; routes pods' subnets 10.244.<node>.0/24
#   storage1, storage2        two further pod networks, layer 2 only (10.98.0.0/16 and 10.99.0.0/16 by network attachments)
#   client     10.78.0.0/24   a tap for the NFS client's kernel (e2e/nfs)
# A link's end in here is called <network>-<node>: nodes-1, storage1-2. Kube-proxy runs here too: a client beside the nodes
# reaches Services as a kubelet's mount does.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
pki=$STATE/pki
export STATE NODES BIN NODE24
mount --make-rshared /
ip link set lo up

# keep NAME COMMAND...: runs it for ever, restarting it when it ends, unless there is a file STATE/NAME.hold; its process number is in
# STATE/NAME.pid, its output in STATE/NAME.log
keep() {
  local name=$1
  shift
  (while :; do
    while [ -e "$STATE/$name.hold" ]; do sleep 0.1; done
    "$@" &
    echo $! >"$STATE/$name.pid"
    wait $! || true
    sleep 0.5
  done) >"$STATE/$name.log" 2>&1 </dev/null &
}
ready() {
  curl -fs --cacert "$pki/ca.crt" --cert "$pki/admin.crt" --key "$pki/admin.key" https://10.10.0.254:6443/readyz >/dev/null
}

for network in nodes storage1 storage2; do ip link add "$network" type bridge; ip link set "$network" up; done
ip addr add 10.10.0.254/24 dev nodes
ip addr add 10.96.0.10/32 dev nodes # the cluster's DNS
ip route add 10.96.0.0/16 dev nodes # Services' addresses need some route before kube-proxy's rules redirect them
for node in $(seq "$NODES"); do ip route add "10.244.$node.0/24" via "10.10.0.$node"; done
ip tuntap add tap0 mode tap
ip addr add 10.78.0.1/24 dev tap0
ip link set tap0 up
echo 1 >/proc/sys/net/ipv4/ip_forward
# The client's connections are translated here: what docs/nfs.md asks of nodes with clients.
"$NODE24" "$here/../../src/main.ts" client-node --once

mkdir -p "$STATE/etcd"
mount -t tmpfs etcd "$STATE/etcd" # in memory: etcd flushes after every write
keep etcd etcd --name test --data-dir "$STATE/etcd/data" --log-level error \
  --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 \
  --listen-peer-urls http://127.0.0.1:2380 --initial-advertise-peer-urls http://127.0.0.1:2380 \
  --initial-cluster test=http://127.0.0.1:2380
keep kube-apiserver "$BIN/kube-apiserver" --etcd-servers=http://127.0.0.1:2379 \
  --bind-address=0.0.0.0 --secure-port=6443 --advertise-address=10.10.0.254 \
  --client-ca-file="$pki/ca.crt" --tls-cert-file="$pki/apiserver.crt" --tls-private-key-file="$pki/apiserver.key" \
  --kubelet-client-certificate="$pki/apiserver-kubelet-client.crt" --kubelet-client-key="$pki/apiserver-kubelet-client.key" \
  --kubelet-certificate-authority="$pki/ca.crt" --kubelet-preferred-address-types=InternalIP,Hostname \
  --requestheader-client-ca-file="$pki/front-ca.crt" --requestheader-allowed-names=front-proxy-client \
  --requestheader-extra-headers-prefix=X-Remote-Extra- --requestheader-group-headers=X-Remote-Group \
  --requestheader-username-headers=X-Remote-User \
  --proxy-client-cert-file="$pki/front.crt" --proxy-client-key-file="$pki/front.key" \
  --service-account-key-file="$pki/sa.pub" --service-account-signing-key-file="$pki/sa.key" \
  --service-account-issuer=https://kubernetes.default.svc --service-cluster-ip-range=10.96.0.0/16 \
  --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction,PodSecurityPolicy --allow-privileged=true

for node in $(seq "$NODES"); do
  unshare --net --mount --propagation private "$here/node.sh" "$node" >"$STATE/node$node.log" 2>&1 </dev/null &
  pid=$!
  until [ "$(readlink /proc/$pid/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.02; done
  # The node's end of each link has the network's name too; node.sh waits for the last one, eth0.
  for network in storage1 storage2 nodes; do
    end=$network
    [ "$network" != nodes ] || end=eth0
    ip link add "$network-$node" type veth peer name "$end" netns "$pid"
    ip link set "$network-$node" master "$network" up
  done
  echo "$pid" >"$STATE/node$node.pid"
done

until ready; do sleep 0.05; done
keep kube-controller-manager "$BIN/kube-controller-manager" --kubeconfig="$pki/kube-controller-manager.kubeconfig" \
  --authentication-kubeconfig="$pki/kube-controller-manager.kubeconfig" \
  --authorization-kubeconfig="$pki/kube-controller-manager.kubeconfig" --use-service-account-credentials=true \
  --service-account-private-key-file="$pki/sa.key" --root-ca-file="$pki/ca.crt" \
  --cluster-signing-cert-file="$pki/ca.crt" --cluster-signing-key-file="$pki/ca.key" --leader-elect=false \
  --bind-address=127.0.0.1 --port=0 --allocate-node-cidrs=false --node-monitor-grace-period=16s --node-monitor-period=2s
keep kube-scheduler "$BIN/kube-scheduler" --kubeconfig="$pki/kube-scheduler.kubeconfig" \
  --authentication-kubeconfig="$pki/kube-scheduler.kubeconfig" --authorization-kubeconfig="$pki/kube-scheduler.kubeconfig" \
  --leader-elect=false --bind-address=127.0.0.1 --port=0
keep kube-proxy "$BIN/kube-proxy" --kubeconfig="$pki/kube-proxy.kubeconfig" --proxy-mode=iptables \
  --cluster-cidr=10.244.0.0/16 --hostname-override=control-plane --conntrack-max-per-core=0 \
  --conntrack-tcp-timeout-established=0s --conntrack-tcp-timeout-close-wait=0s
keep dns "$NODE24" "$here/dns.ts" "$pki/admin.kubeconfig" 10.96.0.10
while :; do wait -n || true; sleep 0.2; done

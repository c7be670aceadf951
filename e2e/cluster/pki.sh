#!/bin/bash
# pki.sh DIR SERVER_URL SANS [NODE=IP...]: a cluster's certificates and kubeconfigs (elliptic keys: about one second).
#   SANS   the API server's names, as openssl writes them: DNS:localhost,IP:127.0.0.1
#   NODE   a kubelet's name and address
# DIR/admin.kubeconfig is the key to everything. Nothing is done when it is there already.
set -euo pipefail
dir=$1 url=$2 names=$3
shift 3
mkdir -p "$dir"
cd "$dir"
[ ! -f admin.kubeconfig ] || exit 0

new_key() { openssl ecparam -name prime256v1 -genkey -noout -out "$1.key"; }

# authority NAME: a key and its self-signed certificate
authority() {
  new_key "$1"
  openssl req -x509 -new -key "$1.key" -subj "/CN=$1" -days 3650 -out "$1.crt"
}

# certificate NAME AUTHORITY SUBJECT USAGES [SANS]
certificate() {
  new_key "$1"
  openssl req -new -key "$1.key" -subj "$3" -out "$1.csr"
  {
    echo "extendedKeyUsage=$4"
    echo "keyUsage=digitalSignature,keyEncipherment"
    [ -z "${5:-}" ] || echo "subjectAltName=$5"
  } >"$1.ext"
  openssl x509 -req -in "$1.csr" -CA "$2.crt" -CAkey "$2.key" -CAcreateserial -days 3650 -extfile "$1.ext" -out "$1.crt" 2>/dev/null
}

# user NAME SUBJECT [USAGES [SANS]]: a certificate and a kubeconfig that uses it
user() {
  certificate "$1" ca "$2" "${3:-clientAuth}" "${4:-}"
  cat >"$1.kubeconfig.new" <<YAML
apiVersion: v1
kind: Config
clusters: [{name: test, cluster: {server: "$url", certificate-authority-data: $(base64 -w0 ca.crt)}}]
users: [{name: user, user: {client-certificate-data: $(base64 -w0 "$1.crt"), client-key-data: $(base64 -w0 "$1.key")}}]
contexts: [{name: test, context: {cluster: test, user: user}}]
current-context: test
YAML
  mv "$1.kubeconfig.new" "$1.kubeconfig"
}

authority ca
authority front-ca
certificate front front-ca /CN=front-proxy-client clientAuth
certificate apiserver ca /CN=kube-apiserver serverAuth "$names"
certificate apiserver-kubelet-client ca /O=system:masters/CN=kube-apiserver-kubelet-client clientAuth
openssl genrsa -out sa.key 2048 2>/dev/null
openssl rsa -in sa.key -pubout -out sa.pub 2>/dev/null
for program in kube-controller-manager kube-scheduler kube-proxy; do user "$program" "/CN=system:$program"; done
for node; do
  name=${node%%=*} address=${node#*=}
  user "kubelet-$name" "/O=system:nodes/CN=system:node:$name" clientAuth,serverAuth "DNS:$name,IP:$address"
done
user admin /O=system:masters/CN=admin

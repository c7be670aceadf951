#!/bin/bash
# build.sh            builds Kubernetes 1.20.2 into ${TANDEM_CACHE:-$HOME/.cache/tandem}/kubernetes/bin, unless it is there
# build.sh --built    exit status 0 when it is there and of this version
#
# From Debian bookworm's source package with Debian's Go 1.19: nothing else is downloaded. About 11 minutes on two cores,
# 3.5 GB of disk and 2.9 GB of memory; a second build with the same cache takes seconds. One binary, kube-all, is every
# program of the cluster, chosen by the name it is called by; kubectl is another.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
root=${TANDEM_CACHE:-$HOME/.cache/tandem}/kubernetes
version=1.20.2
package=1.20.5+really1.20.2-1.1+deb12u1
tree=$root/gopath/src/k8s.io/kubernetes
programs=(kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy)

say() { echo "kubernetes: $* (${SECONDS} s)"; }

built() {
  local program
  for program in "${programs[@]}"; do
    [ "$("$root/bin/$program" --version 2>/dev/null)" = "Kubernetes v$version" ] || return 1
  done
  "$root/bin/kubectl" version --client --short 2>/dev/null | grep -qx "Client Version: v$version"
}

# Debian's own source list of this machine, asked for source packages in lists of its own: the machine's stay as they are.
download() {
  local list=$root/apt/src.sources own
  mkdir -p "$root/apt/lists/partial"
  own=$(grep -ls '^Suites:.*bookworm' /etc/apt/sources.list.d/*.sources | head -n 1 || true)
  if [ -n "$own" ]; then
    sed 's/^Types:.*/Types: deb-src/' "$own" >"$list"
  elif grep -qs '^deb .*bookworm' /etc/apt/sources.list; then
    list=$root/apt/src.list
    sed -n 's/^deb \(.*bookworm.*\)/deb-src \1/p' /etc/apt/sources.list >"$list"
  else
    echo "kubernetes: no Debian 12 (bookworm) list in /etc/apt: the source package kubernetes $package cannot be had" >&2
    exit 1
  fi
  local options=(-oDir::Etc::sourcelist="$list" -oDir::Etc::sourceparts=- -oDir::State::lists="$root/apt/lists")
  apt-get "${options[@]}" update -qq
  (cd "$root" && apt-get "${options[@]}" source -qq --download-only "kubernetes=$package")
  say "source package downloaded"
}

unpack() {
  rm -rf "$tree" "$root/src"
  mkdir -p "$(dirname "$tree")" "$root/src"
  tar xzf "$root"/kubernetes_*really"$version".orig.tar.gz -C "$root/src"
  mv "$root/src/kubernetes-$version" "$tree"
  cd "$tree"
  # The vendored reflect2 1.0.1 does not work with Go 1.18 and later: Debian's 1.0.2 does.
  rm -rf vendor/github.com/modern-go/reflect2
  cp -rL /usr/share/gocode/src/github.com/modern-go/reflect2 vendor/github.com/modern-go/
  # For tests only: the kubelet does not look 5 s for Docker, and a pod that ended leaves the API after 1-5 s, not 10-66 s.
  sed -i 's/^const rootDirRetries = 5/const rootDirRetries = 1/; s/^const rootDirRetryPeriod time.Duration = 1000/const rootDirRetryPeriod time.Duration = 1/' \
    vendor/github.com/google/cadvisor/container/docker/factory.go
  sed -i 's/^const syncPeriod = 10 \* time.Second/const syncPeriod = 1 * time.Second/' pkg/kubelet/status/status_manager.go
  sed -i 's/ContainerGCPeriod = time.Minute/ContainerGCPeriod = 2 * time.Second/' pkg/kubelet/kubelet.go
}

# The one generated file that the source package lacks: the OpenAPI definitions.
generate() {
  cd "$tree"
  go build -o "$root/bin/openapi-gen" k8s.io/kubernetes/vendor/k8s.io/kube-openapi/cmd/openapi-gen
  local folders
  folders=$(grep -rl --include='*.go' --exclude='*_test.go' --exclude='zz_generated*' '^// *+k8s:openapi-gen=' \
    pkg cmd plugin staging/src/k8s.io |
    grep -v -E '^staging/src/k8s.io/(code-generator|sample-apiserver)/' |
    xargs -n1 dirname | LC_ALL=C sort -u | sed 's,^staging/src/,vendor/,; s,^,k8s.io/kubernetes/,' | paste -sd,)
  "$root/bin/openapi-gen" --logtostderr -i "$folders" -p k8s.io/kubernetes/pkg/generated/openapi -O zz_generated.openapi \
    -h vendor/k8s.io/code-generator/hack/boilerplate.go.txt -r "$root/violations.report"
  diff -q "$root/violations.report" api/api-rules/violation_exceptions.list
  touch .ready
  say "OpenAPI definitions generated"
}

compile() {
  cd "$tree"
  local flags="" path program
  for path in k8s.io/kubernetes/vendor/k8s.io/component-base/version k8s.io/kubernetes/vendor/k8s.io/client-go/pkg/version; do
    flags+=" -X $path.gitVersion=v$version -X $path.gitMajor=1 -X $path.gitMinor=20 -X $path.gitTreeState=clean"
    flags+=" -X $path.gitCommit=faecb196815e248d3ecfb03c680a4507229c2a56 -X $path.buildDate=2021-01-13T13:20:00Z"
  done
  mkdir -p cmd/kube-all
  cp "$here/kube-all.go" cmd/kube-all/main.go
  for program in kube-all kubectl; do
    go build -trimpath -ldflags "-s -w $flags" -o "$root/bin/" "k8s.io/kubernetes/cmd/$program"
    say "$program built"
  done
  for program in "${programs[@]}"; do ln -sfn kube-all "$root/bin/$program"; done
}

if built; then exit 0; fi
[ "${1:-}" != --built ] || exit 1
mkdir -p "$root/bin"
export PATH=/usr/lib/go-1.19/bin:$PATH GOCACHE=$root/gocache GOPATH=$root/gopath
export GO111MODULE=off CGO_ENABLED=0 GOFLAGS='' GOTOOLCHAIN=local
if [ ! -f "$tree/.ready" ]; then
  compgen -G "$root/kubernetes_*really$version.orig.tar.gz" >/dev/null || download
  unpack
  generate
fi
compile
built || { echo "kubernetes: built, but it does not call itself v$version" >&2; exit 1; }

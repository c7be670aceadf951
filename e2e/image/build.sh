#!/bin/bash
# build.sh OUT.tar [NAME:TAG]: the project's image without an image builder, from the same list and script as the Dockerfile.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
checkout=$(readlink -f "$here/../..")
out=$1 name=${2:-localhost/tandem:e2e}
node=$("$checkout/bin/node24" -p process.execPath)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$here/rootfs.sh" "$checkout" "$node" "$work/root"
"$here/pack.sh" "$name" "$work/root" "$out" "$(cat "$here/config.json")"

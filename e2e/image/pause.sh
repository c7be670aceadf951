#!/bin/bash
# pause.sh: makes the image localhost/pause:3.2, which every pod of the test cluster starts with, unless the cache has it.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
folder=${TANDEM_CACHE:-$HOME/.cache/tandem}/kubernetes/images
[ "$folder/pause.tar" -nt "$here/pause.c" ] && exit 0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$folder"
gcc -O2 -static -s -o "$work/pause" "$here/pause.c"
"$here/pack.sh" localhost/pause:3.2 "$work" "$folder/pause.tar" '{"Entrypoint":["/pause"],"User":"65534:65534"}'

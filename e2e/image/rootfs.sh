#!/bin/bash
# rootfs.sh SOURCE NODE ROOT: lays out the image's whole file system in the new folder ROOT.
#   SOURCE   a checkout with its node_modules (more than the production packages may be installed: only those are taken)
#   NODE     the Node 24 binary
# Both makers of the image run this: the Dockerfile, and build.sh where there is no image builder. The image has no shell
# and no distribution: Node, the C library that it needs, and ours under /app. Everything in it is root's and read-only.
set -euo pipefail
source=$(readlink -f "$1") node=$(readlink -f "$2") root=$3
here=$(dirname "$(readlink -f "$0")")

mkdir -p "$root"/{app,etc,usr/bin,tmp,proc,sys,dev,var/lib/tandem}
chmod 1777 "$root/tmp"
echo 'tandem:x:64000:64000::/tmp:/sbin/nologin' >"$root/etc/passwd"
echo 'tandem:x:64000:' >"$root/etc/group"
echo 'hosts: files dns' >"$root/etc/nsswitch.conf"

# Node without its debugging symbols (it is a tenth smaller), and the libraries it is linked to, where its loader looks.
cp "$node" "$root/usr/bin/node"
strip "$root/usr/bin/node" 2>/dev/null || true
{ ldd "$node" | grep -oE '/[^ ]+'; ldconfig -p | grep -oE '/.*/lib(nss_dns|nss_files|resolv)\.so\.2$' || true; } | sort -u |
  while read -r library; do
    [ -e "$library" ] || continue
    mkdir -p "$root$(dirname "$library")"
    cp -L "$library" "$root$library"
  done

# Ours.
cd "$source"
grep -v '^#' "$here/files.txt" | tar -cf - --exclude='*.test.ts' --exclude='*.api.ts' --exclude='testing' -T - | tar -xf - -C "$root/app"

# Production packages without what only a reader or a compiler needs: types, source maps, documents, sources for other
# module systems' bundlers, binaries for runtimes other than Node.
npm ls --omit=dev --omit=optional --all --parseable 2>/dev/null | tail -n +2 | sed "s,^$source/,," |
  grep -v -E '^node_modules/(@types/|bare-)' |
  tar -cf - --exclude='*.d.ts' --exclude='*.d.mts' --exclude='*.d.cts' --exclude='*.map' --exclude='*.md' --exclude='*.markdown' \
    --exclude='*.tsbuildinfo' --exclude='*.flow' --exclude='node_modules/*/docs' --exclude='node_modules/*/test' \
    --exclude='node_modules/*/tests' --exclude='node_modules/*/benchmark' --exclude='prebuilds' --exclude='.github' -T - |
  tar -xf - -C "$root/app"
find "$root/app" -type d -empty -delete
chmod -R a+rX,go-w "$root/app"

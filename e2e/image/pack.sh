#!/bin/bash
# pack.sh NAME:TAG ROOT OUT.tar CONFIG_JSON: packs the folder ROOT as an image of one layer, in the form of `docker save`.
#   CONFIG_JSON   the image's "config" object: Entrypoint, User, Env, WorkingDir
# The same folder gives the same bytes: owners, times and order are fixed.
set -euo pipefail
name=$1 root=$2 out=$3 config=$4
case $(uname -m) in x86_64) architecture=amd64 ;; aarch64) architecture=arm64 ;; *) architecture=$(uname -m) ;; esac
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
tar --numeric-owner --owner=0 --group=0 --sort=name --mtime=@0 -C "$root" -cf "$work/layer.tar" .
digest=$(sha256sum "$work/layer.tar" | cut -d' ' -f1)
cat >"$work/config.json" <<JSON
{"architecture":"$architecture","os":"linux","created":"1970-01-01T00:00:00Z","config":$config,
 "rootfs":{"type":"layers","diff_ids":["sha256:$digest"]},
 "history":[{"created":"1970-01-01T00:00:00Z","created_by":"e2e/image/pack.sh"}]}
JSON
printf '[{"Config":"config.json","RepoTags":["%s"],"Layers":["layer.tar"]}]' "$name" >"$work/manifest.json"
tar -C "$work" -cf "$out.new" manifest.json config.json layer.tar
mv "$out.new" "$out"

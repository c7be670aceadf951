#!/bin/bash
# ganesha.sh FOLDER: NFS-Ganesha with its VFS back end, exporting FOLDER/data; runs until it is killed.
# To be run in network and mount namespaces of its own (peers.ts does): it uses the standard ports and its own /run.
set -euo pipefail
folder=$1
mkdir -p "$folder"/{data,recovery,run}
ip link set lo up
mount --bind "$folder/run" /run
mkdir -p /run/ganesha /run/rpcbind
sed "s,@FOLDER@,$folder,g" "$(dirname "$(readlink -f "$0")")/ganesha.conf" >"$folder/ganesha.conf"
rpcbind -w
exec ganesha.nfsd -F -L "$folder/ganesha.log" -f "$folder/ganesha.conf" -p /run/ganesha.pid

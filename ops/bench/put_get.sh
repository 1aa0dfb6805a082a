#!/usr/bin/env bash
# Starts `cairn dev` from the given folder of binaries on free ports, runs cairn-load against it, stops it.
# put_get.sh BINARIES SECONDS SIZES CLIENTS   (called by `cargo xtask bench put-get`)
set -euo pipefail
binaries=$1 seconds=$2 sizes=$3 clients=$4
folder=$(mktemp -d)
"$binaries/cairn" dev --data "$folder/data" --s3 127.0.0.1:0 --admin 127.0.0.1:0 --ready-file "$folder/ready.json" >"$folder/log" 2>&1 &
server=$!
trap 'kill -TERM $server 2>/dev/null; wait $server 2>/dev/null; rm -rf "$folder"' EXIT
for _ in $(seq 300); do
    [ -s "$folder/ready.json" ] && break
    kill -0 $server 2>/dev/null || { cat "$folder/log"; exit 1; }
    sleep 0.1
done
s3=$(python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["s3"])' "$folder/ready.json")
echo "six nodes in one process, rs(4,2); $(nproc) cores shared with the clients; $(uname -srm)"
"$binaries/cairn-load" --endpoint "http://${s3#http://}" --seconds "$seconds" --sizes "$sizes" --clients "$clients" --pids "$server"

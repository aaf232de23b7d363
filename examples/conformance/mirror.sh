#!/bin/sh
# Starts Darner as the conformance suite wants a mirror: two registries that are the suite's origins, short memories, and
# an account that is for one check's repositories only. The arguments are what --run fills in.
set -eu
listen=$1 admin=$2 data=$3 name=$4 upstream=$5 name2=$6 upstream2=$7
shift 7
cache=$1 stale=$2 user=$3 password=$4
cat >"$data.toml" <<TOML
listen = ["$listen"]
admin = "$admin"
data-dir = "$data"
cache-size = $cache
min-free = "1%"
tag-ttl = "1s"
negative-ttl = "1s"
grant-ttl = "2s"
stale-tag = "$stale"
read-only = ${READ_ONLY:-false}

[registry."$name"]
endpoints = ["$upstream"]
allowed-hosts = ["${upstream2#http://}"]

[[registry."$name".account]]
repositories = ["conformance/aut-05*"]
username = "$user"
password = "$password"

[registry."$name2"]
endpoints = ["$upstream2"]

[registry."docker.io"]
endpoints = ["$upstream"]
TOML
exec "${DARNER:-darner}" proxy --config "$data.toml"

#!/bin/sh
# The whole suite against Darner, with origins that misbehave as the checks want. More arguments go to the command:
#   examples/conformance/run.sh --only caching --html report.html
# DARNER names the program; READ_ONLY=true tests a mirror that takes no writes.
set -eu
here=$(dirname "$0")
DARNER=${DARNER:-darner}
READ_ONLY=${READ_ONLY:-false}
export DARNER READ_ONLY
write=--write
if [ "$READ_ONLY" = true ]; then write=; fi
fill='{listen} {admin} {data} {name} {upstream} {name2} {upstream2} {cache} {stale} {user} {password}'
common='--data-dir {data} --registry {name}={upstream} --registry {name2}={upstream2} --tag-ttl 1s --min-free 1%'
# shellcheck disable=SC2086  # --write, or no word
exec "$DARNER" conformance --upstream scripted $write \
  --run "exec sh '$here/mirror.sh' $fill" \
  --run-supernode "exec '$DARNER' supernode --listen {listen} --control {control} $common" \
  --run-node "exec '$DARNER' proxy --listen {listen} --admin {admin} --supernode {supernode} --peer-listen {peer} $common" \
  "$@"

#!/usr/bin/env bash
# Runs a schema registry in memory, on a port of the loopback device (0: a free port, which its log names):
#
#     tests/registry/registry.sh PORT LOG
#
# It runs until standard input ends, so it never outlives the process that started it, however that process ends.
# Confluent's API is at /apis/ccompat/v7.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
port=$1 log=$2

java=$("$here/java.sh" 21 "A schema registry")
app=$("$here/fetch.sh")

# The shell redirects the standard input of background processes, so it is passed on as descriptor 3.
exec 3<&0
"$java" -Xmx400m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 \
  -Dquarkus.http.host=127.0.0.1 -Dquarkus.http.port="$port" \
  -Dquarkus.management.host=127.0.0.1 -Dquarkus.management.port=0 -jar "$app/quarkus-run.jar" >"$log" 2>&1 3<&- &
registry=$!
{
  cat <&3 >/dev/null || true
  kill -9 "$registry" 2>/dev/null || true
} 2>/dev/null &
exec 3<&-
{ wait "$registry"; } 2>/dev/null

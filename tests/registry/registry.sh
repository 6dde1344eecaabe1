#!/usr/bin/env bash
# Runs a schema registry on a port of the loopback device (0: a free one, which its log then names), in memory:
#
#     tests/registry/registry.sh PORT LOG
#
# It runs until standard input ends, so that it never outlives whoever started it, however that ended. Its
# Confluent API is under /apis/ccompat/v7.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
port=$1 log=$2

java=$("$here/java.sh" 21 "A schema registry")
app=$("$here/fetch.sh")

# A background process would read nothing from standard input: it is handed over by another number.
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

#!/usr/bin/env bash
# Runs one Apache Kafka broker in a folder, on two free ports of the loopback device:
#
#     tests/kafka/broker.sh DIR PORT CONTROLLER_PORT [remove]
#
# The folder is formatted the first time and kept: started again on it, the broker has everything that it
# had. With `remove` it goes when the broker ends. It runs until standard input ends, so that it never outlives whoever started it, however that ended.
# DIR/more.properties, where it is, has further settings, and DIR/users users, a line SCRAM-SHA-512=[…] each.
# DIR/broker.pid names the broker's process, DIR/broker.log has its log.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
dir=$1 port=$2 controller=$3 remove=${4:-}

java=$("$here/../registry/java.sh" 17 "Apache Kafka")
libs=$("$here/fetch.sh")

mkdir -p "$dir"
sed -e "s|@PORT@|$port|; s|@CONTROLLER@|$controller|; s|@DATA@|$dir/data|" \
  "$here/server.properties" >"$dir/server.properties"
# Of settings that stand twice the last one counts.
[ ! -e "$dir/more.properties" ] || cat "$dir/more.properties" >>"$dir/server.properties"
users=()
[ ! -e "$dir/users" ] || while read -r user; do users+=(--add-scram "$user"); done <"$dir/users"
if [ ! -e "$dir/data/meta.properties" ]; then
  "$java" -XX:TieredStopAtLevel=1 -cp "$libs/*" kafka.tools.StorageTool format --standalone \
    -t AAAAAAAAQACAAAAAAAAAAQ -c "$dir/server.properties" "${users[@]}" >"$dir/format.log" 2>&1 ||
    { cat "$dir/format.log" >&2; exit 70; }
fi

# A background process would read nothing from standard input: it is handed over by another number.
exec 3<&0
"$java" -Xms256m -Xmx512m -XX:+UseSerialGC -Dlog4j2.configurationFile="file:$here/log4j2.properties" \
  -cp "$libs/*" kafka.Kafka "$dir/server.properties" >>"$dir/broker.log" 2>&1 3<&- &
broker=$!
echo "$broker" >"$dir/broker.pid"
{
  cat <&3 >/dev/null || true
  kill -9 "$broker" 2>/dev/null || true
  [ -z "$remove" ] || { sleep 1; rm -rf "$dir"; }
} 2>/dev/null &
exec 3<&-
{ wait "$broker"; } 2>/dev/null

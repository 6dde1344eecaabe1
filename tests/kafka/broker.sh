#!/usr/bin/env bash
# Runs an Apache Kafka broker in a folder, on two free ports of the loopback device:
#
#     tests/kafka/broker.sh DIR PORT CONTROLLER_PORT [remove]
#
# The folder is formatted the first time and kept: a broker that is started on it again still has its data. With
# `remove`, the folder is removed when the broker ends. The broker runs until standard input ends, so it never outlives
# the process that started it, however that process ends.
# DIR/more.properties, if it exists, contains further settings, DIR/users one user per line: SCRAM-SHA-512=[…], and
# DIR/features one feature of the cluster per line: group.version=0, and DIR/java.options one option of Java per line.
# DIR/broker.pid contains the id of the broker's process, and DIR/broker.log its log.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
dir=$1 port=$2 controller=$3 remove=${4:-}

java=$("$here/../registry/java.sh" 17 "Apache Kafka")
libs=$("$here/fetch.sh")

mkdir -p "$dir"
sed -e "s|@PORT@|$port|; s|@CONTROLLER@|$controller|; s|@DATA@|$dir/data|" \
  "$here/server.properties" >"$dir/server.properties"
# If a setting occurs twice, the last one counts.
[ ! -e "$dir/more.properties" ] || cat "$dir/more.properties" >>"$dir/server.properties"
users=()
[ ! -e "$dir/users" ] || while read -r user; do users+=(--add-scram "$user"); done <"$dir/users"
features=()
[ ! -e "$dir/features" ] || while read -r feature; do features+=(--feature "$feature"); done <"$dir/features"
if [ ! -e "$dir/data/meta.properties" ]; then
  "$java" -XX:TieredStopAtLevel=1 -cp "$libs/*" kafka.tools.StorageTool format --standalone \
    -t AAAAAAAAQACAAAAAAAAAAQ -c "$dir/server.properties" "${users[@]}" "${features[@]}" >"$dir/format.log" 2>&1 ||
    { cat "$dir/format.log" >&2; exit 70; }
fi

options=()
[ ! -e "$dir/java.options" ] || while read -r option; do options+=("$option"); done <"$dir/java.options"

# The shell redirects the standard input of background processes, so it is passed on as descriptor 3.
exec 3<&0
"$java" "${options[@]}" -Xms256m -Xmx512m -XX:+UseSerialGC -Dlog4j2.configurationFile="file:$here/log4j2.properties" \
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

#!/usr/bin/env bash
# Runs one of Apache Kafka's tools, from the jars that the tests use:
#
#     tests/kafka/tool.sh CLASS ARGUMENTS...
#
# tests/kafka/bin/ contains those that the documentation uses, under their usual names.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
java=$("$here/../registry/java.sh" 17 "Apache Kafka's tools")
libs=$("$here/fetch.sh")
exec "$java" -Xmx128m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 \
  -Dlog4j2.configurationFile="file:$here/log4j2.properties" -cp "$libs/*" "$@"

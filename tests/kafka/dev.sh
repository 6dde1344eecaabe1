#!/usr/bin/env bash
# Apache Kafka for development, on fixed ports of the loopback device, in .cache/kafka-dev:
#
#     tests/kafka/dev.sh start PORT      starts it if it is not running, and waits until it answers
#     tests/kafka/dev.sh registry PORT   does the same for a schema registry, and reports if none can be started
#     tests/kafka/dev.sh stop            stops both; topics and offsets are kept for the next start, schemas are not
#
# The tests use brokers of their own.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
dir=$(cd "$here/../.." && pwd)/.cache/kafka-dev

# Prints the process id in a pid file if that process runs and is ours: ids are reused after a restart.
ours() {
  local pid
  pid=$(cat "$dir/$1" 2>/dev/null) && ps -o args= -p "$pid" 2>/dev/null | grep -qF "$2" && echo "$pid"
}
broker() { ours broker.pid "kafka.Kafka $dir/server.properties"; }
leash() { ours leash.pid "tail -f /dev/null"; }
registry() { ours registry.pid "registry/registry.sh $1"; }
answers() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

stop() {
  local pid i
  if pid=$(broker); then
    kill "$pid"
    for ((i = 0; i < 150; i++)); do broker >/dev/null || break; sleep 0.2; done
  fi
  # The keepers end with their standard input, and with them the registry and a broker that did not stop.
  if pid=$(leash); then kill "$pid"; fi
  rm -f "$dir/leash" "$dir/leash.pid" "$dir/broker.pid" "$dir/registry.pid"
}

# Starts a registry on the broker's leash. If it does not start, the reason is in its log or on standard error.
start_registry() {
  local port=$1 keeper i
  rm -f "$dir/registry.log"
  set -m
  nohup bash "$here/../registry/registry.sh" "$port" "$dir/registry.log" <"$dir/leash" >"$dir/registry.start" 2>&1 &
  keeper=$!
  set +m
  echo "$keeper" >"$dir/registry.pid"
  for ((i = 0; i < 900; i++)); do
    grep -q "Listening on: http://" "$dir/registry.log" 2>/dev/null && return 0
    if ! kill -0 "$keeper" 2>/dev/null; then
      cat "$dir/registry.start" >&2
      tail -n 5 "$dir/registry.log" >&2 2>/dev/null || true
      rm -f "$dir/registry.pid"
      return 1
    fi
    sleep 0.2
  done
  return 1
}

case ${1:-} in
start)
  port=$2
  if broker >/dev/null; then
    if grep -q "listeners=PLAINTEXT://127.0.0.1:$port," "$dir/server.properties" && answers "$port"; then
      echo "Apache Kafka already answers on 127.0.0.1:$port"
      exit 0
    fi
  fi
  stop
  if answers "$port"; then
    echo "Port $port is taken by another program: choose one with KAFKA_PORT=..." >&2
    exit 69
  fi
  mkdir -p "$dir"
  mkfifo "$dir/leash"
  # Each process gets its own process group, so that Ctrl-C in the terminal does not reach it.
  set -m
  nohup tail -f /dev/null >"$dir/leash" 2>/dev/null </dev/null &
  echo $! >"$dir/leash.pid"
  nohup bash "$here/broker.sh" "$dir" "$port" $((port + 1)) <"$dir/leash" >"$dir/start.log" 2>&1 &
  keeper=$!
  set +m
  for ((i = 0; i < 900; i++)); do
    answers "$port" && break
    if ! kill -0 "$keeper" 2>/dev/null; then
      cat "$dir/start.log" >&2
      tail -n 20 "$dir/broker.log" >&2 2>/dev/null || true
      stop
      exit 69
    fi
    sleep 0.2
  done
  answers "$port" || { echo "Apache Kafka does not answer: see $dir/broker.log" >&2; exit 69; }
  echo "Apache Kafka answers on 127.0.0.1:$port; \`make kafka-stop\` stops it, its data stays in .cache/kafka-dev"
  ;;
registry)
  port=$2
  url=http://127.0.0.1:$port/apis/ccompat/v7
  if registry "$port" >/dev/null && answers "$port"; then
    echo "A schema registry already answers: registry.url = \"$url\""
  elif ! leash >/dev/null; then
    echo "A schema registry is started beside Apache Kafka, which does not run: make kafka" >&2
    exit 69
  elif answers "$port"; then
    echo "No schema registry: port $port is taken by another program; choose one with REGISTRY_PORT=..." >&2
  elif start_registry "$port"; then
    echo "A schema registry answers, its schemas are held in memory: registry.url = \"$url\""
  else
    echo "No schema registry; Apache Kafka runs without one" >&2
  fi
  ;;
stop)
  if broker >/dev/null; then
    stop
    echo "Apache Kafka is stopped; rm -r .cache/kafka-dev forgets its topics"
  else
    stop
    echo "Apache Kafka is not running"
  fi
  ;;
*)
  echo "tests/kafka/dev.sh start PORT | registry PORT | stop" >&2
  exit 64
  ;;
esac

#!/usr/bin/env bash
# The developer's own Apache Kafka, on fixed ports of the loopback device, in .cache/kafka-dev:
#
#     tests/kafka/dev.sh start PORT      starts it, or leaves it running, and waits until it answers
#     tests/kafka/dev.sh stop            stops it; topics and offsets stay for the next start
#
# The tests never use it and it never uses theirs.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
dir=$(cd "$here/../.." && pwd)/.cache/kafka-dev

# The process of a pid file, if it still runs and is ours: numbers are given again after a restart.
ours() {
  local pid
  pid=$(cat "$dir/$1" 2>/dev/null) && ps -o args= -p "$pid" 2>/dev/null | grep -qF "$2" && echo "$pid"
}
broker() { ours broker.pid "kafka.Kafka $dir/server.properties"; }
leash() { ours leash.pid "tail -f /dev/null"; }
answers() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

stop() {
  local pid i
  if pid=$(broker); then
    kill "$pid"
    for ((i = 0; i < 150; i++)); do broker >/dev/null || break; sleep 0.2; done
  fi
  # The broker's keeper ends with its standard input, and a broker that did not stop ends with it.
  if pid=$(leash); then kill "$pid"; fi
  rm -f "$dir/leash" "$dir/leash.pid" "$dir/broker.pid"
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
  # Each in a group of its own, so that Ctrl-C at whatever started it does not reach it.
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
  echo "tests/kafka/dev.sh start PORT | stop" >&2
  exit 64
  ;;
esac

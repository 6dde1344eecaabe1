#!/usr/bin/env bash
# `make stack-test`: starts docker-compose.yml with three scorers, checks that events are processed exactly once, kills
# a scorer and the learner with -9, disconnects the broker for 20 s, checks again, and removes everything.
#
# If no Docker engine answers, engine.sh starts one; if images cannot be pulled, images.sh builds replacements. Grafana is
# not started, because its image has no replacement. AEGIS_STACK_SCRATCH=DIR keeps engine and images in DIR.
set -euo pipefail
cd "$(dirname "$0")/../.."
here=tests/stack
project=aegis-stack-test
services=(kafka registry topics score learn producer labeller prometheus)
replicas=3
cut=20
# The partitions of a killed scorer continue within the session time-out and 3 s. Prometheus notices this up to one
# scrape interval (deploy/prometheus/prometheus.yml) later.
session=6 scrape=5
go_on=$((session + 3 + scrape))
# Ports that differ from the defaults of docker-compose.yml.
export AEGIS_KAFKA_PORT=29094 AEGIS_PROMETHEUS_PORT=29090 AEGIS_DEMO_RATE=${AEGIS_DEMO_RATE:-15} COMPOSE_PROFILES=cpu

work=$(mktemp -d "${TMPDIR:-/tmp}/aegis-stack.XXXXXX")
engine=${AEGIS_STACK_SCRATCH:-$work/engine}
own= by_hand=0
began=$SECONDS

say() { printf '%4d s  %s\n' $((SECONDS - began)) "$*"; }
fail() { say "FAILED: $*"; exit 1; }
docker info >/dev/null 2>&1 || own=yes
if docker compose version >/dev/null 2>&1; then compose=(docker compose); else compose=(docker-compose); fi
compose() { "${compose[@]}" -p "$project" "$@"; }

finish() {
  local code=$?
  trap - EXIT
  if [ $code -ne 0 ] && docker info >/dev/null 2>&1; then
    docker ps -a --format '{{.Names}}: {{.Status}}' || true
    compose logs --no-color --tail 8 kafka registry topics score learn producer labeller 2>/dev/null | cut -c1-400 || true
  fi
  compose down -v --remove-orphans --timeout 20 >"$work/down.log" 2>&1 || true
  left=$(docker ps -aq --filter "label=com.docker.compose.project=$project"
    docker volume ls -q --filter "label=com.docker.compose.project=$project"
    docker network ls -q --filter "label=com.docker.compose.project=$project")
  if [ -n "$own" ] && [ -z "${AEGIS_STACK_SCRATCH:-}" ]; then
    bash $here/engine.sh stop "$engine"
  fi
  rm -rf "$work"
  [ -z "$left" ] || { say "left behind: $left"; code=1; }
  [ $code -ne 0 ] || say "taken down; nothing is left"
  exit $code
}
trap finish EXIT
trap 'exit 130' INT TERM

if [ -n "$own" ]; then
  DOCKER_HOST=$(bash $here/engine.sh start "$engine")
  export DOCKER_HOST
  say "no Docker engine answers: one of our own, $(docker info -f '{{.ServerVersion}}'), is up"
fi
bash $here/images.sh "$work" | sed 's/^/        /'

# Prints the first number of a Prometheus query's result, or nothing.
query() {
  curl -s --max-time 5 "http://127.0.0.1:$AEGIS_PROMETHEUS_PORT/api/v1/query" --data-urlencode "query=$1" |
    python3 -c 'import json, sys; found = json.load(sys.stdin)["data"]["result"]; print(found[0]["value"][1] if found else "")' 2>/dev/null || true
}
# Waits until the result of a query satisfies a comparison: holds 'sum(up)' '>=' 4 SECONDS.
holds() {
  local until=$((SECONDS + $4)) found
  while :; do
    found=$(query "$1")
    if [ -n "$found" ] && python3 -c "import sys; sys.exit(not ($found $2 $3))"; then return; fi
    [ $SECONDS -lt $until ] || fail "$1 is ${found:-nothing}, not $2 $3, after $4 s"
    sleep 1
  done
}
containers() { docker ps -q --filter "label=com.docker.compose.project=$project" --filter "label=com.docker.compose.service=$1"; }
health() { docker inspect -f '{{.State.Health.Status}}' "$1"; }
# Waits until a number of containers of a service are healthy: healthy SERVICE COUNT SECONDS.
healthy() {
  local until=$((SECONDS + $3)) count
  while :; do
    count=0
    for container in $(containers "$1"); do
      [ "$(health "$container")" = healthy ] && count=$((count + 1))
    done
    [ $count -lt "$2" ] || return 0
    [ $SECONDS -lt $until ] || fail "$count of $2 $1 are healthy after $3 s"
    sleep 0.5
  done
}
restarts() {
  local sum=0 container
  for container in $(containers score) $(containers learn); do
    sum=$((sum + $(docker inspect -f '{{.RestartCount}}' "$container")))
  done
  echo $sum
}
answers() { docker exec "$1" ready "$2" 2>/dev/null; }
# Kills a container's process, as a failing machine would, and waits until the engine has restarted it. If we may not
# kill the process, the engine kills it and starts it on request.
murder() {
  local count
  count=$(docker inspect -f '{{.RestartCount}}' "$1")
  if kill -9 "$(docker inspect -f '{{.State.Pid}}' "$1")" 2>/dev/null; then
    until [ "$(docker inspect -f '{{.RestartCount}}' "$1")" -gt "$count" ]; do sleep 0.1; done
  else
    docker kill "$1" >/dev/null && docker start "$1" >/dev/null
    by_hand=$((by_hand + 1))
  fi
}
verify() {
  compose run --rm --no-deps topics verify >"$work/verify" 2>&1 || { cat "$work/verify"; fail "aegis verify"; }
  sed 's/\r//; s/^/        /' "$work/verify" | grep -v 'Creating\|reading'
  say "aegis verify: everything holds ($1)"
}

say "up: ${services[*]}, $replicas scorers"
up=$SECONDS
compose up -d --scale score=$replicas "${services[@]}" >"$work/up.log" 2>&1 || { tail -n 30 "$work/up.log"; fail "compose up"; }
healthy score $replicas 180
healthy learn 1 60
say "all are healthy, $((SECONDS - up)) s after the command"
holds "count(up{job=\"aegis\"} == 1)" == $((replicas + 1)) 60
holds 'sum(aegis_decisions_total)' '>' 100 120
holds 'sum(aegis_labels_total{outcome="accepted"})' '>' 20 120
holds 'sum(aegis_rounds)' '>' 10 120
holds 'count(aegis_expert_weight > 0)' '>' 1 60
holds 'count(count by (instance) (aegis_decisions_total))' == $replicas 60
say "decisions by every scorer, labels and weights are to be seen, $((SECONDS - up)) s after the command"
started=$(restarts)
weights=$(query 'sum(aegis_predictors_published_total)')

say "the producer is stopped, to count"
compose stop producer >/dev/null 2>&1
holds 'sum(kafka_consumergroup_lag{consumergroup="aegis-score"}) + sum(aegis_queue_events)' == 0 90
sleep 6 # one more scrape, after which the counters no longer change
read_=$(query 'sum(aegis_events_consumed_total)')
done_=$(query 'sum(aegis_decisions_total) + sum(aegis_dead_letters_total{side="event"} or vector(0))')
verify "before anything is broken"
# Scorers that joined took partitions over while events were in progress: these were read twice and counted once.
events=$(sed -n 's/^\([0-9]*\) events: .*/\1/p' "$work/verify")
[ "$done_" = "$events" ] && [ "$read_" -ge "$events" ] ||
  fail "/metrics: $read_ events read, $done_ decisions and dead letters; the topic has $events events"
say "/metrics: $done_ decisions and dead letters, one for each event of the topic ($read_ were read)"
compose start producer >/dev/null 2>&1
holds 'sum(rate(aegis_decisions_total[15s]))' '>' 1 60

victim=$(containers score | head -n 1)
killed=$SECONDS
say "a scorer is killed with -9"
murder "$victim"
healthy score $replicas 60
holds 'max(kafka_consumergroup_lag_seconds{consumergroup="aegis-score"})' '<' 3 60
took=$((SECONDS - killed))
[ $took -le $go_on ] || fail "the killed scorer's partitions went on after $took s: more than $go_on"
say "three scorers again, and no partition's oldest event waits for 3 s: $took s of $go_on"
verify "after a scorer was killed"

killed=$SECONDS
published=$(query 'sum(aegis_predictors_published_total)')
say "the learner is killed with -9"
murder "$(containers learn)"
healthy learn 1 60
holds 'sum(aegis_learner_active)' == 1 60
holds 'sum(aegis_predictors_published_total)' '>' 0 60
say "the learner publishes again: $((SECONDS - killed)) s (it had published $published, $weights by the first look)"
verify "after the learner was killed"

broker=$(containers kafka)
scorer=$(containers score | tail -n 1)
docker network disconnect "${project}_default" "$broker"
gone=$SECONDS
say "the broker is cut off for $cut s"
while answers "$scorer" readyz; do
  [ $((SECONDS - gone)) -lt $cut ] || fail "/readyz says ready without a broker"
  sleep 0.5
done
answers "$scorer" livez || fail "/livez fails without a broker"
say "/readyz says no, /livez says yes: $((SECONDS - gone)) s"
while [ $((SECONDS - gone)) -lt $cut ]; do sleep 0.2; done
docker network connect --alias kafka "${project}_default" "$broker"
back=$SECONDS
say "the broker is back"
healthy score $replicas 90
healthy learn 1 90
holds 'sum(rate(aegis_decisions_total[15s]))' '>' 1 90
holds 'max(kafka_consumergroup_lag_seconds{consumergroup="aegis-score"})' '<' 3 90
say "all are healthy and nothing waits: $((SECONDS - back)) s"
again=$(($(restarts) + by_hand - started))
[ $again = 2 ] || fail "$again restarts: the two that were killed, and others by themselves"
say "nothing but the two that were killed was started again"
compose stop producer labeller >/dev/null 2>&1
holds 'sum(kafka_consumergroup_lag) + sum(aegis_queue_events)' == 0 90
verify "after the broker was cut off"
say "held"

#!/usr/bin/env bash
# Runs a Docker engine in a folder, for machines on which no engine answers.
#
#     tests/stack/engine.sh start DIR     starts it and prints the address of its socket, for DOCKER_HOST
#     tests/stack/engine.sh stop DIR      stops it and removes DIR
set -euo pipefail
dir=$2

alive() { [ -e "$dir/pid" ] && kill -0 "$(cat "$dir/pid")" 2>/dev/null; }

case $1 in
start)
  if ! command -v dockerd >/dev/null || [ "$(id -u)" != 0 ]; then
    echo "No Docker engine answers, and none can be started here: that needs root and dockerd." >&2
    echo "Start one, or install it (Debian, Ubuntu: apt-get install docker.io docker-compose debootstrap)." >&2
    exit 69
  fi
  mkdir -p "$dir"
  nohup dockerd --data-root "$dir/data" --exec-root "$dir/exec" --pidfile "$dir/pid" \
    -H "unix://$dir/sock" >"$dir/log" 2>&1 </dev/null &
  for ((i = 0; i < 300; i++)); do
    DOCKER_HOST="unix://$dir/sock" docker info >/dev/null 2>&1 && break
    sleep 0.2
  done
  DOCKER_HOST="unix://$dir/sock" docker info >/dev/null 2>&1 || { tail -n 20 "$dir/log" >&2; exit 69; }
  echo "unix://$dir/sock"
  ;;
stop)
  if alive; then
    kill "$(cat "$dir/pid")"
    for ((i = 0; i < 150; i++)); do alive || break; sleep 0.2; done
  fi
  # Unmounts what is still mounted in the folder: it would otherwise be deleted through the mount.
  awk -v dir="$dir/" 'index($2, dir) == 1 { print $2 }' /proc/mounts | sort -r | while read -r mount; do
    umount "$mount" || umount -l "$mount"
  done
  rm -rf --one-file-system "$dir"
  ;;
*)
  echo "tests/stack/engine.sh start|stop DIR" >&2
  exit 64
  ;;
esac

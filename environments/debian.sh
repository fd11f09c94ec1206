#!/bin/sh
# Installs Debian packages that tests or benchmarks call, if a command of that name is missing: debian.sh COMMAND=PACKAGE ...
# Without apt-get or root it says what is missing, and the tests that need it say that they are skipped.
set -u
missing=
for pair in "$@"; do
    command -v "${pair%%=*}" >/dev/null 2>&1 || missing="$missing ${pair#*=}"
done
[ -z "$missing" ] && exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    echo "not installed, and what needs it is skipped:$missing"
    exit 0
fi
echo "installing:$missing"
# shellcheck disable=SC2086 - a list of packages
apt-get update -qq >/dev/null && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null \
    || echo "could not be installed, and what needs it is skipped:$missing"

#!/usr/bin/env bash
# Bring a testbed of its own up, run tests/slurm in it, take it down whatever happened (root).
#   slurm/testbed/run_tests.sh PYTHON [pytest's arguments]
set -euo pipefail
(($#)) || { echo "error: usage: slurm/testbed/run_tests.sh PYTHON [pytest's arguments]" >&2 && exit 2; }
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here/../.."
# Its own folder: the tests cancel jobs and kill daemons, and must not do so to a testbed somebody works with.
TESTBED=$(mktemp --directory "${TMPDIR:-/tmp}/peftable-tests.XXXXXX")
export TESTBED
. "$here/env.sh"

"$here/install.sh"
finish() {
  status=$?
  "$here/down.sh"
  ((status)) || rm -rf "$TESTBED"
}
trap finish EXIT
"$here/up.sh"
"$1" -m pytest tests/slurm "${@:2}"

#!/usr/bin/env bash
# Run tests/slurm in testbeds of their own and take these down whatever happened (root).
#   slurm/testbed/run_tests.sh PYTHON [pytest's arguments]
# Jobs wait most of the time: two testbeds side by side, one for the longest file and one for all others, take half of it.
set -euo pipefail
(($#)) || { echo "error: usage: slurm/testbed/run_tests.sh PYTHON [pytest's arguments]" >&2 && exit 2; }
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here/../.."
python=$1 arguments=("${@:2}") longest=tests/slurm/test_interruptions.py

# Their own folders: the tests cancel jobs and kill daemons, and must not do so to a testbed somebody works with.
folder=$(mktemp --directory "${TMPDIR:-/tmp}/peftable-tests.XXXXXX")
chmod 755 "$folder"
within() { # a testbed's name, a command; in a subshell, which it replaces
  export TESTBED="$folder/$1"
  . "$here/env.sh"
  exec "${@:2}"
}
background=
finish() {
  status=$?
  if [[ -n $background ]]; then kill "$background" && wait "$background" || true; fi
  for name in longest others; do (within "$name" "$here/down.sh") || status=1; done
  ((status)) || rm -rf "$folder"
  exit "$status"
}
trap finish EXIT

"$here/install.sh"
for name in longest others; do (within "$name" "$here/up.sh"); done
pytest=("$python" -m pytest -rs "${arguments[@]}")
(within longest "${pytest[@]}" "$longest") >"$folder/longest.txt" 2>&1 &
background=$!
first=0 second=0
(within others "${pytest[@]}" tests/slurm --ignore="$longest") || first=$?
echo "waiting for $longest, whose output follows"
wait "$background" || second=$?
background=
cat "$folder/longest.txt"
# 5: pytest's arguments chose none of these tests.
((first == 5)) && first=$second
((second == 5)) && second=0
exit $((first ? first : second))

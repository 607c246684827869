#!/usr/bin/env bash
# One daemon of the testbed (root): slurm/testbed/daemon.sh start|stop|kill|alive NAME
#   NAME: munged, mariadbd, slurmdbd, slurmctld, slurmd-n1 or slurmd-n2
#   start  starts it and waits until it answers; does nothing when it runs
#   stop   asks it to end (SIGTERM), and kills what has not ended after 10 s
#   kill   kills it at once (SIGKILL); processes that it started, such as jobs, still run
#   alive  exits 0 when it runs
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/env.sh"
export PATH="$PATH:/usr/sbin:/sbin"
names="munged mariadbd slurmdbd slurmctld slurmd-n1 slurmd-n2"

fail() {
  echo "error: $1" >&2
  exit 2
}
[[ $# == 2 && $1 =~ ^(start|stop|kill|alive)$ && " $names " == *" $2 "* ]] ||
  fail "usage: slurm/testbed/daemon.sh start|stop|kill|alive NAME, one of $names"
action=$1 name=$2
pid_file=$TESTBED/pids/$name

# The process of the pid file, if it is still ours: numbers are used again. (One that ended has no environment left.)
pid() {
  local number
  number=$(cat "$pid_file" 2>/dev/null) && [[ -n $number ]] || return 1
  tr '\0' '\n' 2>/dev/null <"/proc/$number/environ" | grep --quiet --fixed-strings --line-regexp "TESTBED=$TESTBED" && echo "$number"
}

command_of() {
  case $name in
    munged)
      command=(setpriv --reuid=munge --regid=munge --clear-groups munged --foreground
        --key-file="$TESTBED/munge/key" --socket="$TESTBED/munge/socket" --seed-file="$TESTBED/munge/seed"
        --pid-file="$TESTBED/munge/pid" --log-file="$TESTBED/munge/log") ;;
    mariadbd)
      command=(mariadbd --no-defaults --user=mysql --datadir="$TESTBED/db" --socket="$TESTBED/db/socket" --skip-networking
        --pid-file="$TESTBED/db/pid" --innodb-buffer-pool-size=64M --innodb-log-file-size=32M
        --innodb-lock-wait-timeout=900 --innodb-flush-log-at-trx-commit=0) ;;
    slurmdbd) command=(env MYSQL_UNIX_PORT="$TESTBED/db/socket" slurmdbd -D) ;;
    slurmctld) command=(slurmctld -D) ;;
    slurmd-*) command=(slurmd -D -N "${name#slurmd-}") ;;
  esac
}

answers() {
  case $name in
    munged) munge --socket="$TESTBED/munge/socket" --no-input | unmunge --socket="$TESTBED/munge/socket" ;;
    mariadbd) mariadb-admin --no-defaults --socket="$TESTBED/db/socket" ping ;;
    slurmdbd) sacctmgr --noheader --immediate show cluster ;;
    slurmctld) scontrol ping ;;
    slurmd-*) exec 3<>"/dev/tcp/$(sed -n 's/.* NodeAddr=\([^ ]*\) .*/\1/p' "$SLURM_CONF")/$(($(sed -n 's/^SlurmctldPort=//p' "$SLURM_CONF") + 10 + ${name#slurmd-n}))" ;;
  esac
}

start() {
  pid >/dev/null && return 0
  command_of
  rm -f "$pid_file"
  setsid "${command[@]}" >>"$TESTBED/log/$name.out" 2>&1 </dev/null &
  echo $! >"$pid_file"
  local until=$((SECONDS + 60))
  until (answers) >/dev/null 2>&1; do
    ((SECONDS < until)) && [[ -d /proc/$! ]] || fail "$name does not answer; see $TESTBED/log/$name.*"
    sleep 0.1
  done
}

end() { # end SIGNAL
  local number
  number=$(pid) || return 0
  kill "-$1" "$number" 2>/dev/null || true
  for ((i = 0; i < 100; i++)); do
    pid >/dev/null || break
    sleep 0.1
  done
  if pid >/dev/null; then kill -KILL "$number" 2>/dev/null || true; fi
  rm -f "$pid_file"
}

[[ $action == alive ]] && { pid >/dev/null; exit; }
((EUID == 0)) || fail "only root can $action daemons of the testbed"
case $action in
  start) start ;;
  stop) end TERM ;;
  kill) end KILL ;;
esac

#!/usr/bin/env bash
# Bring up a throw-away real Slurm on this machine (root, Debian 12): slurm/testbed/up.sh
# Two nodes with a fake GPU each, partitions `main` (jobs may be preempted and are requeued) and `high` (preempts main),
# account `lab`. No systemd, nothing in /etc; state in $TESTBED (default /tmp/peftable-testbed), ports on loopback.
#   ACCT=none slurm/testbed/up.sh   without accounting: no sacct, no accounts
# A testbed that is up stays up; one that is up in part is taken down first. Afterwards: . slurm/testbed/env.sh && sinfo
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/env.sh"
export PATH="$PATH:/usr/sbin:/sbin"
ACCT=${ACCT:-dbd}

fail() {
  echo "error: $1" >&2
  exit 2
}
[[ $ACCT == dbd || $ACCT == none ]] || fail "ACCT=$ACCT; allowed: dbd (accounting, the default) or none"
[[ $TESTBED =~ ^/[A-Za-z0-9_./-]+$ ]] || fail "TESTBED=$TESTBED; Slurm's files take an absolute path of letters, digits and _ . / - only"
((EUID == 0)) || fail "the testbed's daemons start and act as root: sudo ${0@Q}"
missing=$("$here/install.sh" --missing) || fail "packages are missing: make testbed, or $missing"

daemons=(munged slurmctld slurmd-n1 slurmd-n2)
[[ $ACCT == none ]] || daemons=(munged mariadbd slurmdbd slurmctld slurmd-n1 slurmd-n2)
kind_file=$TESTBED/etc/accounting

all_idle() { [[ $(timeout 5 sinfo --noheader --Node --partition=main --format=%T 2>/dev/null) == $'idle\nidle' ]]; }
works() {
  [[ $(cat "$kind_file" 2>/dev/null) == "$ACCT" ]] || return 1
  for name in "${daemons[@]}"; do "$here/daemon.sh" alive "$name" || return 1; done
  timeout 5 scontrol ping >/dev/null 2>&1
}
if works; then
  echo "the testbed is up already in $TESTBED; to use it: . slurm/testbed/env.sh"
  exit 0
fi
# The marker file shows that the folder is a testbed: without it nothing is deleted.
[[ -e $TESTBED/.testbed || -z $(ls -A "$TESTBED" 2>/dev/null) ]] || fail "$TESTBED holds other files; name another folder: TESTBED=…"
"$here/down.sh" >/dev/null
mkdir -p "$TESTBED"/{etc,log,pids,state,spool/n1,spool/n2,db,munge}
rm -f "$TESTBED"/log/*
chmod 755 "$TESTBED"
touch "$TESTBED/.testbed"

# Slurm's daemons listen at the address of the machine's own name.
HOST=$(uname -n)
HOST=${HOST%%.*}
read -r ADDRESS _ < <(getent ahostsv4 "$HOST") || fail "the name of this machine has no address; add a line to /etc/hosts: 127.0.1.1 $HOST"
# The first block of free ports; testbeds in other folders may hold earlier ones.
taken() { (exec 3<>"/dev/tcp/$ADDRESS/$1") 2>/dev/null; }
PORT=16917
while taken $PORT || taken $((PORT + 1)) || taken $((PORT + 11)) || taken $((PORT + 12)); do PORT=$((PORT + 20)); done
. "$here/configure.sh"

# Munge wants its key closed to others, and the folder of its socket open to them.
head --bytes=128 /dev/urandom >"$TESTBED/munge/key"
chown --recursive munge:munge "$TESTBED/munge"
chmod 711 "$TESTBED/munge"
chmod 400 "$TESTBED/munge/key"
# The second user of the testbed; it stays, like everything a package adds.
id peftable >/dev/null 2>&1 || useradd --no-create-home --home-dir=/nonexistent --shell=/bin/sh peftable
setpriv --reuid=peftable --regid=peftable --clear-groups test -x "$TESTBED" ||
  fail "other users than root cannot reach $TESTBED; name a folder that they can enter: TESTBED=/tmp/…"

"$here/daemon.sh" start munged
if [[ $ACCT == dbd ]]; then
  chown mysql:mysql "$TESTBED/db"
  mariadb-install-db --no-defaults --user=mysql --datadir="$TESTBED/db" --auth-root-authentication-method=socket \
    --skip-test-db >"$TESTBED/log/mariadb-install.out" 2>&1 || fail "no database; see $TESTBED/log/mariadb-install.out"
  "$here/daemon.sh" start mariadbd
  mariadb --no-defaults --socket="$TESTBED/db/socket" --execute="CREATE DATABASE slurm"
  "$here/daemon.sh" start slurmdbd
  {
    sacctmgr --immediate add cluster testbed
    sacctmgr --immediate add qos short
    sacctmgr --immediate add account lab Cluster=testbed Description=lab Organization=lab
    sacctmgr --immediate add user root,peftable Account=lab DefaultAccount=lab QOS=normal,short
  } >"$TESTBED/log/sacctmgr.out" 2>&1 || fail "no accounts; see $TESTBED/log/sacctmgr.out"
fi
for name in slurmctld slurmd-n1 slurmd-n2; do "$here/daemon.sh" start "$name"; done
until all_idle; do
  ((SECONDS < 90)) || fail "the nodes are not idle after $SECONDS s; logs are in $TESTBED/log"
  sleep 0.1
done
echo "$ACCT" >"$kind_file"
echo "the testbed is up in $TESTBED after $SECONDS s; to use it: . slurm/testbed/env.sh; to end it: slurm/testbed/down.sh"

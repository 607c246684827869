#!/usr/bin/env bash
# Take the testbed down (root): slurm/testbed/down.sh
# Cancels its jobs, stops its daemons, ends processes that still run and deletes its state; $TESTBED/log stays.
# Processes are ended by their own numbers, and only those of this $TESTBED. Does nothing when no testbed is up.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/env.sh"
export PATH="$PATH:/usr/sbin:/sbin"

if [[ ! -e $TESTBED/.testbed || ! -d $TESTBED/etc ]]; then
  echo "no testbed is up in $TESTBED"
  exit 0
fi
if ((EUID)); then
  echo "error: the testbed's daemons run as root: sudo ${0@Q}" >&2
  exit 2
fi

# Jobs first, while the controller still runs and can end them.
if "$here/daemon.sh" alive slurmctld && timeout 10 squeue --noheader --format=%A >"$TESTBED/pids/jobs" 2>/dev/null; then
  sort --unique "$TESTBED/pids/jobs" | timeout 10 xargs --no-run-if-empty scancel 2>/dev/null || true
  for ((i = 0; i < 60; i++)); do
    [[ -z $(timeout 5 squeue --noheader 2>/dev/null) ]] && break
    sleep 0.1
  done
fi
for name in slurmctld slurmd-n1 slurmd-n2 slurmdbd mariadbd munged; do "$here/daemon.sh" stop "$name"; done

# A slurmstepd runs on after its slurmd and has neither arguments nor environment: its open files show its testbed.
# Processes of its jobs carry the testbed's configuration and a job id.
left_over() { # left_over /proc/NUMBER
  if [[ $(cat "$1/comm" 2>/dev/null) == slurmstepd ]]; then
    readlink "$1/cwd" "$1"/fd/* 2>/dev/null | grep --quiet --fixed-strings "$TESTBED/"
  else
    local variables
    variables=$(tr '\0' '\n' 2>/dev/null <"$1/environ") && grep --quiet ^SLURM_JOB_ID= <<<"$variables" &&
      grep --quiet --fixed-strings --line-regexp "SLURM_CONF=$SLURM_CONF" <<<"$variables"
  fi
}
for folder in /proc/[0-9]*; do
  if left_over "$folder"; then kill -KILL "${folder#/proc/}" 2>/dev/null || true; fi
done
# Cgroups of jobs whose slurmstepd was killed; the nodes' own may be shared with another testbed and stay.
first=$(sed -n 's/^FirstJobId=//p' "$SLURM_CONF" 2>/dev/null || true)
if [[ -n $first ]]; then
  find /sys/fs/cgroup/*/slurm_n[12] -depth -path "*/job_${first:0:5}*" -type d -exec rmdir {} + 2>/dev/null || true
fi
rm -rf "${TESTBED:?}"/{state,spool,db,munge,pids,etc}
echo "the testbed in $TESTBED is down; its logs stay in $TESTBED/log"

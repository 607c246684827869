# shellcheck shell=sh
# Source me: `. slurm/testbed/env.sh`, then squeue, sbatch and sacct speak to the testbed.
export TESTBED="${TESTBED:-${TMPDIR:-/tmp}/peftable-testbed}"
export SLURM_CONF="$TESTBED/etc/slurm.conf"

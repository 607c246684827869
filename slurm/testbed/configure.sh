# shellcheck shell=bash
# Sourced by up.sh: writes slurm.conf, gres.conf, cgroup.conf and slurmdbd.conf into $TESTBED/etc.
# In: TESTBED; ACCT (dbd or none); HOST and ADDRESS, this machine's name and what it resolves to; PORT, the first of
# the ports (slurmctld, slurmdbd, then the nodes' from PORT + 11).

# With cgroups (v1), as on real clusters, no process escapes its job, and Slurm reports OUT_OF_MEMORY.
# Elsewhere (containers, cgroup v2 without systemd) processes are followed by their parents.
# Cores are not bound: the nodes claim more of them than the machine may have.
tracking=proctrack/linuxproc task=task/none constrain=no
if [[ -w /sys/fs/cgroup/freezer && -w /sys/fs/cgroup/memory ]]; then
  tracking=proctrack/cgroup task=task/cgroup constrain=yes
fi

accounting="AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none"
if [[ $ACCT == dbd ]]; then
  # The "password" is the path of munge's socket: clients of slurmdbd read it from here.
  accounting="AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=$ADDRESS
AccountingStoragePort=$((PORT + 1))
AccountingStoragePass=$TESTBED/munge/socket
AccountingStorageTRES=gres/gpu
AccountingStorageEnforce=associations,limits,qos
AccountingStoreFlags=job_comment
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=2"
fi

cat >"$TESTBED/etc/slurm.conf" <<CONF
ClusterName=testbed
SlurmctldHost=$HOST($ADDRESS)
SlurmctldPort=$PORT
SlurmUser=root
StateSaveLocation=$TESTBED/state
SlurmctldPidFile=$TESTBED/pids/slurmctld.own
SlurmctldLogFile=$TESTBED/log/slurmctld.log
SlurmdPidFile=$TESTBED/pids/slurmd-%n.own
SlurmdLogFile=$TESTBED/log/slurmd-%n.log
SlurmdSpoolDir=$TESTBED/spool/%n
# Daemons listen at ADDRESS only: on loopback where, as Debian sets it up, the machine's name means that.
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
# Testbeds side by side share the cgroups of nodes of the same name: their job ids must differ.
FirstJobId=$((PORT * 1000 + 1))

AuthType=auth/munge
CryptoType=crypto/munge
# A requeued job waits for its old credential to expire: 5 s instead of 2 minutes.
AuthInfo=socket=$TESTBED/munge/socket,cred_expire=5

ProctrackType=$tracking
TaskPlugin=$task
MpiDefault=none
SwitchType=switch/none
$accounting

# Short timers, so that faults show quickly.
SlurmdTimeout=10
SlurmctldTimeout=10
MessageTimeout=5
InactiveLimit=0
KillWait=5
MinJobAge=30
OverTimeLimit=0
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=3,batch_sched_delay=0

# As on real clusters: a job that can never run is refused at once, lost nodes come back, jobs may be requeued.
EnforcePartLimits=ALL
ReturnToService=2
JobRequeue=1
MaxArraySize=1001
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE

SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
GresTypes=gpu
SlurmdParameters=config_overrides
NodeName=n[1-2] NodeHostname=$HOST NodeAddr=$ADDRESS Port=[$((PORT + 11))-$((PORT + 12))] CPUs=2 RealMemory=8000 Gres=gpu:fake:1
PartitionName=main Nodes=ALL Default=YES DefaultTime=10 MaxTime=60 DefMemPerCPU=500 PriorityTier=1 GraceTime=0
PartitionName=high Nodes=ALL MaxTime=60 DefMemPerCPU=500 PriorityTier=10 PreemptMode=OFF
CONF

echo "NodeName=n[1-2] Name=gpu Type=fake File=/dev/null" >"$TESTBED/etc/gres.conf"

cat >"$TESTBED/etc/cgroup.conf" <<CONF
CgroupPlugin=cgroup/v1
CgroupMountpoint=/sys/fs/cgroup
ConstrainRAMSpace=$constrain
ConstrainCores=no
ConstrainDevices=no
CONF

# slurmdbd reads no file that others may read.
(umask 077 && cat >"$TESTBED/etc/slurmdbd.conf") <<CONF
AuthType=auth/munge
AuthInfo=socket=$TESTBED/munge/socket
DbdHost=localhost
DbdAddr=$ADDRESS
DbdPort=$((PORT + 1))
SlurmUser=root
LogFile=$TESTBED/log/slurmdbd.log
PidFile=$TESTBED/pids/slurmdbd.own
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=root
StorageLoc=slurm
CommunicationParameters=NoInAddrAny
CONF

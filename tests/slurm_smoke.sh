#!/usr/bin/env bash
# The smoke preset as a chain of Slurm jobs: fine-tune; attribute and degrade as arrays of two shards; report.
#     tests/slurm_smoke.sh PYTHON FOLDER [OVERRIDE …]
# Uses the Slurm that answers. Where none does, it brings up one node of its own on this machine, with a key, folders
# and ports of its own, for as long as the script runs.
set -euo pipefail
PATH=$PATH:/usr/sbin
python=$1 folder=$(realpath -m "$2") root=$(realpath "$(dirname "$0")/..")
overrides=("paths.results=$folder/results" "paths.cache=$folder/cache" "${@:3}")

require() {
    for tool; do
        type "$tool" >/dev/null 2>&1 || { echo "error: no $tool here: install slurm-wlm and munge (Debian's names)." >&2; exit 2; }
    done
}

bring_up() {
    require munged slurmctld slurmd
    node=$(mktemp -d /tmp/slurm-XXXXXX)   # short: a socket's path must be
    trap take_down EXIT
    mkdir -m 755 "$node/state" "$node/spool"
    chmod 755 "$node"
    (umask 377 && head -c 1024 /dev/urandom >"$node/key")
    cat >"$node/slurm.conf" <<END
ClusterName=smoke
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmctldPort=16817
SlurmdPort=16818
SlurmUser=$(id -un)
SlurmdUser=$(id -un)
AuthInfo=socket=$node/munge
ProctrackType=proctrack/pgid
TaskPlugin=task/none
StateSaveLocation=$node/state
SlurmdSpoolDir=$node/spool
SlurmctldPidFile=$node/slurmctld.pid
SlurmdPidFile=$node/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
NodeName=$(hostname -s) NodeAddr=127.0.0.1 CPUs=$(nproc)
PartitionName=smoke Nodes=ALL Default=YES
END
    export SLURM_CONF=$node/slurm.conf
    munged --force --key-file="$node/key" --socket="$node/munge" --pid-file="$node/munged.pid" \
        --log-file="$folder/munged.log" --seed-file="$node/seed"
    slurmctld
    slurmd
    for _ in {1..60}; do
        [[ $(sinfo --noheader --format=%T 2>/dev/null) == idle ]] && return
        sleep 1
    done
    echo "error: the one-node Slurm is not ready after a minute: see the logs in $folder." >&2
    exit 2
}

take_down() {
    for daemon in slurmd slurmctld munged; do
        pid=$(cat "$node/$daemon.pid" 2>/dev/null) && kill "$pid" && tail --pid="$pid" -f /dev/null || true
    done
    rm -rf "$node"
}

# submit SCRIPT SHARD OPTION …: prints the job's number.
submit() {
    local command
    command=$(printf '%q ' env "PYTHONPATH=$root" "$python" "$root/scripts/$1.py" preset=smoke "${overrides[@]}")
    sbatch --parsable --job-name="$1" --output="$folder/$1-%j.log" --kill-on-invalid-dep=yes "${@:3}" \
        --wrap="$command $2"
}

require sbatch sinfo
mkdir -p "$folder"
sinfo >/dev/null 2>&1 || bring_up
shard='shard=$SLURM_ARRAY_TASK_ID/2'
trained=$(submit finetune "")
scored=$(submit attribute "$shard" --array=0-1 --dependency="afterok:$trained")
degraded=$(submit degrade "$shard" --array=0-1 --dependency="afterok:$scored")
submit report "" --dependency="afterok:$degraded" --wait >/dev/null || { tail -qn 3 "$folder"/*-*.log >&2; exit 1; }
cat "$folder"/report-*.log

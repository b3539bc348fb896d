#!/bin/bash
# Protect a corpus on a Slurm cluster: an array of N workers, and behind it a closing job that does
# what they left and marks the complete output. The closing job's exit code is that of the whole.
# Prints the two job numbers.
set -euo pipefail

usage="usage: submit.sh [--wait] N[%AT_ONCE] INPUT OUTPUT [options of unlearnable protect]
  --wait  end when the closing job ends, with its exit code
Options of sbatch stand in protect.sbatch or in SBATCH_* variables (SBATCH_PARTITION, SBATCH_GPUS...)."
wait=()
if [ "${1:-}" = --wait ]; then
    wait=(--wait)
    shift
fi
[[ "${1:-}" =~ ^([1-9][0-9]*)(%[1-9][0-9]*)?$ && $# -ge 3 ]] || {
    echo "$usage" >&2
    exit 2
}
slices=${BASH_REMATCH[1]}
at_once=${BASH_REMATCH[2]}
shift
script=$(dirname "$(realpath "$0")")/protect.sbatch

array=$(sbatch --parsable --array="0-$((slices - 1))$at_once" --export="ALL,SLICES=$slices" \
    "$script" "$@")
echo "array $array"
# afterany: it also does the work of tasks that failed.
sbatch "${wait[@]}" --parsable --dependency="afterany:${array%%;*}" --job-name=unlearnable-closing \
    --output=unlearnable-%j.log "$script" "$@" | sed 's/^/closing /'

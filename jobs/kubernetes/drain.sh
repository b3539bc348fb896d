#!/bin/bash
# What a pod does before it ends (preStop), so that a stop costs as little as it can:
#   drain.sh head    the driver is told to stop, and given the time to end the shards in work
#   drain.sh worker  Ray learns that the node goes away: the shard that it takes along does not
#                    count as a failed attempt
# SECONDS_LEFT: how long it may take; below terminationGracePeriodSeconds.
set -u

left=${SECONDS_LEFT:-60}
driver='^[^ ]*python[^ ]* (-m )?[^ ]*unlearnable (protect|retry) '

case "${1:-}" in
head)
    pkill -TERM -f "$driver" || exit 0
    for ((waited = 0; waited < left; waited++)); do
        pgrep -f "$driver" > /dev/null || exit 0
        sleep 1
    done
    ;;
worker)
    shift
    ray drain-node "$@" --reason DRAIN_NODE_REASON_PREEMPTION \
        --reason-message 'the pod is being ended' --deadline-remaining-seconds "$left"
    # The shard in work may be done by then.
    sleep "$left"
    ;;
*)
    echo "usage: drain.sh head|worker" >&2
    exit 2
    ;;
esac

# Shared by .ci/run and scripts/nightly; sourced, not run. Parts are commands with a name, a time and a result; a part that fails does
# not keep the next from running. All of them end when $limit seconds are over.
limit=4800
results=$(mktemp -d)
: >"$results/list"
child= lane=

# end_all – on a signal: with-limit ends the processes of its command, and the lane its own part.
end_all() {
    trap - INT TERM
    [ -z "$child" ] || kill "$child" 2>/dev/null
    [ -z "$lane" ] || kill "$lane" 2>/dev/null
    wait
    rm -rf "$results"
    exit 143
}
trap end_all INT TERM

# part NAME COMMAND… – runs COMMAND, prints how long it took, and notes its result for the summary. Status 77 means skipped.
part() {
    local name=$1 begin=$SECONDS status=0 left=$((limit - SECONDS)) result
    shift
    printf '\n=== %s: %s\n' "$name" "$*"
    scripts/with-limit $((left > 60 ? left : 60)) "$@" &
    child=$!
    wait "$child" || status=$?
    child=
    case $status in
    0) result=passed ;;
    77) result=SKIPPED ;;
    *) result=FAILED ;;
    esac
    printf '=== %s: %s after %d s\n' "$name" "$result" $((SECONDS - begin))
    printf '%s %s %d\n' "$result" "$name" $((SECONDS - begin)) >>"$results/list"
}

# beside FUNCTION – runs a function of parts in the background; what it prints comes with join.
beside() {
    (
        lane=
        trap 'trap - INT TERM; [ -z "$child" ] || { kill "$child" 2>/dev/null; wait "$child"; }; exit 143' INT TERM
        "$1"
        : >"$results/$1.done"
    ) >"$results/$1.output" 2>&1 &
    lane=$! beside=$1
}

# join – waits for what runs beside, and prints its output.
join() {
    wait "$lane"
    lane=
    cat "$results/$beside.output"
    [ -e "$results/$beside.done" ] || printf 'FAILED %s 0\n' "$beside" >>"$results/list"
}

# summary TITLE – prints all results; ends with status 1 if any part failed.
summary() {
    printf '\n%s, %d s in all:\n' "$1" "$SECONDS"
    awk '{ printf "  %-8s %-14s %5d s\n", $1, $2, $3 }' "$results/list"
    local failed
    failed=$(awk '$1 == "FAILED" { printf " %s", $2 }' "$results/list")
    rm -rf "$results"
    if [ -n "$failed" ]; then
        printf '%s failed:%s\n' "$1" "$failed"
        exit 1
    fi
    printf '%s passed.\n' "$1"
}

# A cluster on this machine with its processes at hand, for the checks that measure. Ends with an error at the first thing that
# does not hold. Needs a release build. The script that reads this sets CHECK to its own name.

. .ci/ports.sh
testudo=$(pwd)/target/release/testudo
scratch=$(mktemp -d)
pids=()
table=()
# Replicas' processes, by id.
REPLICAS=()

# Kilobytes of memory that no process may ever have held.
MEMORY=250000

finish() {
  stop_cluster
  rm -rf "$scratch"
}
trap finish EXIT

fail() {
  echo "$CHECK: $1" >&2
  tail -n 5 "$scratch"/*.log >&2 || true
  exit 1
}

# row WHAT FIGURE: a line of the table.
row() { table+=("$(printf ' %-62s %s' "$1" "$2")"); }

# need FIGURE RELATION BOUND WHAT: a figure that must be so.
need() {
  awk -v a="$1" -v b="$3" "BEGIN { exit !(a != \"\" && a + 0 $2 b + 0) }" || fail "$4 is ${1:-unknown}, and must be $2 $3"
}

# in_time VALUE BOUND WHAT: a time that is too long says little of one try, as others may use the machine. It is told at the
# end, by in_time_or_again.
in_time() {
  awk -v a="$1" -v b="$2" 'BEGIN { exit !(a != "" && a + 0 <= b + 0) }' || LATE+=("$3 is ${1:-unknown}, and should be <= $2")
}
LATE=()

# at_rate VALUE BOUND WHAT: the same of a rate that is too low.
at_rate() {
  awk -v a="$1" -v b="$2" 'BEGIN { exit !(a + 0 >= b + 0) }' || LATE+=("$3 is ${1:-unknown}, and should be >= $2")
}

# in_time_or_again: ends with the status that asks for another try if something took too long.
in_time_or_again() {
  [ "${#LATE[@]}" -gt 0 ] || return 0
  printf "$CHECK: %s\n" "${LATE[@]}" >&2
  exit 75
}

# start NAME ARGUMENTS...: a node of the cluster. Sets PID.
start() {
  local name=$1
  shift
  "$testudo" "$@" --cluster "$scratch/cluster/cluster.toml" >"$scratch/$name.out" 2>"$scratch/$name.log" &
  PID=$!
  pids+=("$PID")
}

# start_gateway NUMBER: sets ETCD to where it serves, which need not yet be answered.
start_gateway() {
  start "gateway-$1" gateway --key "$scratch/cluster/gateway-$1.key" --listen 127.0.0.1:0 --admin off --log warn
  for _ in $(seq 600); do
    ETCD=$(sed -n 's/^testudo gateway etcd=//p' "$scratch/gateway-$1.out")
    [ -z "$ETCD" ] || return 0
    kill -0 "$PID" 2>/dev/null || fail "a gateway does not start"
    sleep 0.05
  done
  fail "a gateway does not say where it serves"
}

# start_cluster SETTINGS...: four replicas and a gateway, and keys for one more.
start_cluster() {
  local id
  free_ports 8
  "$testudo" init --replicas "127.0.0.1:${PORTS[0]},127.0.0.1:${PORTS[2]},127.0.0.1:${PORTS[4]},127.0.0.1:${PORTS[6]}" \
    --gateways 2 --out "$scratch/cluster" "$@" >"$scratch/init.log"
  ADMINS=("${PORTS[1]}" "${PORTS[3]}" "${PORTS[5]}" "${PORTS[7]}")
  for id in 0 1 2 3; do
    start_replica "$id"
  done
  start_gateway 0
  answers "$ETCD"
}

# start_replica ID: again, if it has run before. Sets PID.
start_replica() {
  start "replica-$1" replica --key "$scratch/cluster/replica-$1.key" --data "$scratch/replica-$1" --log warn
  REPLICAS[$1]=$PID
}

# answers ADDRESS: waits until a gateway does.
answers() {
  for _ in $(seq 600); do
    [ "$(ask "$1" /readyz 2>/dev/null)" != ok ] || return 0
    sleep 0.05
  done
  fail "the cluster does not answer"
}

# ask ADDRESS PATH: the body of what is answered over HTTP.
ask() {
  exec 3<>"/dev/tcp/${1%:*}/${1#*:}"
  printf 'GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' "$2" >&3
  tr -d '\r' <&3 | sed '1,/^$/d'
  exec 3>&-
}

# metric ADDRESS NAME: its value.
metric() { ask "$1" /metrics | sed -n "s/^$2 //p"; }

# Memory is looked at before they end; it never shrinks.
stop_cluster() {
  [ "${#pids[@]}" -gt 0 ] || return 0
  kill "${pids[@]}" 2>/dev/null || true
  wait "${pids[@]}" 2>/dev/null || true
  pids=()
  rm -rf "$scratch/cluster" "$scratch"/replica-[0-9]
}

# within_memory WHAT: no process has ever held more than it may.
within_memory() {
  local pid peak most=0
  for pid in "${pids[@]}"; do
    peak=$(sed -n 's/^VmHWM:[^0-9]*\([0-9]*\) kB/\1/p' "/proc/$pid/status" 2>/dev/null) || fail "a process has died"
    [ "${peak:-0}" -le "$most" ] || most=$peak
  done
  need "$most" ">" 0 "the memory of the largest process, in kB,"
  need "$most" "<" "$MEMORY" "the memory of the largest process $1, in kB,"
  row "$1: the largest process held at most" "$((most / 1000)) MB"
}

# bench ARGUMENTS...: a run, which must end well. Sets FOUND to its report.
bench() {
  FOUND=$("$testudo" bench --endpoints "$ETCD" --value-size 256 --json "$@" 2>"$scratch/bench.log") ||
    fail "testudo bench $* went wrong: ${FOUND:-$(cat "$scratch/bench.log")}"
}

# found NAME [OBJECT]: a number of the report, or of an object in it.
found() {
  local text=$FOUND
  [ -z "${2:-}" ] || text=${text#*\""$2"\":{}
  text=${text#*\""$1"\":}
  printf '%s' "${text%%[,\}]*}"
}

milliseconds() { awk -v us="$1" 'BEGIN { printf "%.1f ms", us / 1000 }'; }

snapshots() {
  local admin count least=""
  for admin in "${ADMINS[@]}"; do
    count=$(metric "127.0.0.1:$admin" testudo_snapshots_total)
    [ -n "$least" ] && [ "$least" -le "$count" ] || least=$count
  done
  printf '%s' "$least"
}

# Puts 100,000 keys, and puts on until every replica has written a snapshot of them.
fill() {
  bench --workload get-serializable --keys 100000 --outstanding 256 --operations 1000 --warmup 0s
  for _ in $(seq 30); do
    [ "$(snapshots)" = 0 ] || break
    bench --workload put --keys 100000 --outstanding 256 --operations 20000 --warmup 0s
  done
  need "$(snapshots)" ">" 0 "the number of snapshots of the replica with the fewest"
  need "$(metric "$ETCD" etcd_debugging_mvcc_keys_total)" ">=" 100000 "the number of keys"
  row "keys of 256 bytes, at revision $(metric "$ETCD" etcd_debugging_mvcc_current_revision)" 100000
  row "snapshots written meanwhile, by each replica at least" "$(snapshots)"
}

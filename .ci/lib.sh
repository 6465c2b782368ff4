# The longer steps of .ci/run.

. .ci/ports.sh

COMMIT=$(git rev-parse HEAD)
SCRATCH=$(mktemp -d)
UP_PID=""
ETCD_PID=""
# Checks whose client or compiler is not here.
LEFT_OUT=0

step() { printf '\n==> %s (%s)\n' "$1" "$(date -u +%H:%M:%S)"; }

fail() { echo "ci: $1" >&2; exit 1; }

cleanup() {
  stop_up || true
  stop_etcd || true
  [ ! -e "$SCRATCH/rendered" ] || git worktree remove --force "$SCRATCH/rendered" || true
  rm -rf "$SCRATCH"
}
trap cleanup EXIT

# Ends the cluster that this run started, and only that.
stop_up() {
  [ -n "$UP_PID" ] || return 0
  kill -INT "$UP_PID" 2>/dev/null || true
  wait "$UP_PID" 2>/dev/null || true
  UP_PID=""
}

# start_up LOG COMMAND...: starts a cluster, waits for the ready line, and sets ETCD to its address.
start_up() {
  local log=$1 deadline
  shift
  # Emptied before anybody looks into it: the background job may begin late.
  : >"$log"
  "$@" >>"$log" 2>"$log.err" &
  UP_PID=$!
  deadline=$((SECONDS + 900))
  until grep -q '^testudo ready' "$log"; do
    kill -0 "$UP_PID" 2>/dev/null || { cat "$log" "$log.err" >&2; fail "the cluster ended before it was ready"; }
    [ "$SECONDS" -lt "$deadline" ] || { cat "$log.err" >&2; fail "the cluster was not ready in time"; }
    sleep 0.1
  done
  ETCD=$(sed -n 's/^testudo ready etcd=\([^ ]*\) .*/\1/p' "$log")
}

# start_etcd: starts a real etcd of one member on ports that are free, and sets REAL to its address.
start_etcd() {
  local deadline
  deadline=$((SECONDS + 120))
  while [ "$SECONDS" -lt "$deadline" ]; do
    free_ports 2
    REAL=127.0.0.1:${PORTS[0]}
    rm -rf "$SCRATCH/etcd"
    etcd --name real --data-dir "$SCRATCH/etcd" --initial-cluster "real=http://127.0.0.1:${PORTS[1]}" \
      --listen-client-urls "http://$REAL" --advertise-client-urls "http://$REAL" \
      --listen-peer-urls "http://127.0.0.1:${PORTS[1]}" --initial-advertise-peer-urls "http://127.0.0.1:${PORTS[1]}" \
      >"$SCRATCH/etcd.log" 2>&1 &
    ETCD_PID=$!
    for _ in $(seq 100); do
      # A port that is taken ends it; others are tried then.
      kill -0 "$ETCD_PID" 2>/dev/null || break
      ! ETCDCTL_API=3 etcdctl --endpoints "$REAL" endpoint health >/dev/null 2>&1 || return 0
      sleep 0.2
    done
    stop_etcd
  done
  tail -n 20 "$SCRATCH/etcd.log" >&2
  fail "etcd does not start"
}

# Ends the etcd that this run started, and only that.
stop_etcd() {
  [ -n "$ETCD_PID" ] || return 0
  kill "$ETCD_PID" 2>/dev/null || true
  wait "$ETCD_PID" 2>/dev/null || true
  ETCD_PID=""
}

# in_three_tries SCRIPT: one that measures how long things take says with status 75 that they took too long; the machine may
# have been busy. Whatever else is wrong is wrong at once.
in_three_tries() {
  local try status
  for try in 1 2 3; do
    status=0
    "$1" || status=$?
    [ "$status" -eq 75 ] || return "$status"
  done
  fail "$1: too long in each of $try tries"
}

# need COMMAND PACKAGE: has a client or a compiler installed, or says that it is skipped where nobody may install.
need() {
  command -v "$1" >/dev/null && return 0
  if [ "${CI:-}" = true ]; then
    # Not to start what it installs: run level 1 has no services.
    { apt-get update -qq && RUNLEVEL=1 apt-get install -y -qq --no-install-recommends "$2"; } >"$SCRATCH/apt.log" 2>&1 ||
      { tail -n 20 "$SCRATCH/apt.log" >&2; fail "$1 is missing and cannot be installed"; }
    return 0
  fi
  LEFT_OUT=$((LEFT_OUT + 1))
  echo "ci: $1 is not here (Debian package $2); this check is left out"
  return 1
}

lean_build() {
  local bin="$SCRATCH/bin" tool found cargo_home
  mkdir -p "$bin"
  for tool in cargo rustc rustdoc cc gcc ld as ar ranlib nm strip objcopy; do
    found=$(command -v "$tool") && ln -sf "$found" "$bin/$tool"
  done
  # rustup's proxies find the toolchain by themselves; a build finds nothing else.
  CARGO_TARGET_DIR="$SCRATCH/lean" PATH="$bin" cargo build --locked
  CARGO_TARGET_DIR="$SCRATCH/lean" PATH="$bin" cargo test --locked
  rm -rf "$SCRATCH/lean"
}

first_command() {
  [ ! -e testudo-data ] || fail "testudo-data is here already; run this in a clean checkout"
  start_up "$SCRATCH/up.log" cargo run --release --locked -- up
  [ "$ETCD" = 127.0.0.1:2379 ] || fail "the cluster serves $ETCD"
  cat "$SCRATCH/up.log"
  target/release/testudo bench --endpoints "$ETCD" --workload put --operations 1 --warmup 0s >"$SCRATCH/bench.log" ||
    { cat "$SCRATCH/bench.log" >&2; fail "one put failed"; }
  if need etcdctl etcd-client; then
    ETCDCTL_API=3 etcdctl --endpoints "$ETCD" put first hello
    [ "$(ETCDCTL_API=3 etcdctl --endpoints "$ETCD" get first --print-value-only)" = hello ] || fail "the put is lost"
  fi
  stop_up
  rm -rf testudo-data
}

stock_clients() {
  if need etcdctl etcd-client; then
    for liar in 0=equivocate 2=corrupt; do
      start_up "$SCRATCH/liar.log" target/release/testudo up --ephemeral --listen 127.0.0.1:0 --liar "$liar"
      ETCDCTL_API=3 .ci/etcdctl "$ETCD"
      stop_up
      echo "etcdctl: all answers are right with liar $liar"
    done
    if need etcd etcd-server; then same_story; fi
  else
    # The comparison with a real etcd needs it, too.
    LEFT_OUT=$((LEFT_OUT + 1))
  fi
  if need protoc protobuf-compiler; then
    (cd compat/etcd-client && CARGO_TARGET_DIR="$SCRATCH/compat" cargo build --locked --quiet)
    start_up "$SCRATCH/compat.log" target/release/testudo up --ephemeral --listen 127.0.0.1:0 --liar 1=random
    "$SCRATCH/compat/debug/testudo-compat-etcd-client" "http://$ETCD"
    stop_up
  fi
}

# The same story of watches, leases, transactions and compaction is told to a real etcd and to clusters with a liar in
# each place: a backup, and the primary, from which a gateway is fed first. The answers must be the same to the letter.
same_story() {
  local liar
  start_etcd
  .ci/story "$REAL" >"$SCRATCH/story.etcd"
  stop_etcd
  for liar in 0=corrupt 1=corrupt 2=corrupt 3=corrupt 0=stale 0=equivocate 0=silent 3=silent 0=random 2=random; do
    start_up "$SCRATCH/liar.log" target/release/testudo up --ephemeral --listen 127.0.0.1:0 --liar "$liar"
    .ci/story "$ETCD" >"$SCRATCH/story.testudo"
    stop_up
    diff -u --label etcd --label "testudo with liar $liar" "$SCRATCH/story.etcd" "$SCRATCH/story.testudo" ||
      fail "with liar $liar the answers are not etcd's"
    echo "etcdctl: $(grep -c '^\$' "$SCRATCH/story.etcd") commands are answered as etcd does, with liar $liar"
  done
}

# What `cargo xtask new-protocol` writes compiles without a warning and passes its own tests before anybody has touched it.
# It is written where nothing else is looked at: into a work tree of this commit, with a target directory of its own, as
# cargo takes crates of one name in two work trees for one.
rendered_protocol() {
  local xtask
  cargo build --quiet --locked -p xtask
  xtask=$(pwd)/target/debug/xtask
  git worktree add --quiet --detach "$SCRATCH/rendered" "$COMMIT"
  (
    cd "$SCRATCH/rendered"
    export CARGO_TARGET_DIR=$SCRATCH/rendered/target
    "$xtask" new-protocol sample --family ordering
    # The lock file has no line for it yet.
    cargo clippy --quiet -p testudo-sample --all-targets -- -D warnings
    cargo test --quiet -p testudo-sample
  )
  git worktree remove --force "$SCRATCH/rendered"
}

# Builds the fuzzer and gives each of its targets a few seconds: what it no longer compiles with does not land, nor what it
# finds something in at once. Coverage is asked for as `cargo fuzz` does, which needs no other Rust. What is fuzzed has no
# unsafe code, so there is no sanitizer. What a target does not stand is printed: it becomes a test, and then is mended.
short_fuzzing() {
  local seconds=${TESTUDO_FUZZ_SECONDS:-2} host flags flag name folder runs
  need g++ g++ || return 0
  host=$(rustc -vV | sed -n 's/^host: //p')
  flags=-Cpasses=sancov-module
  for flag in level=4 inline-8bit-counters pc-table trace-compares; do
    flags="$flags -Cllvm-args=-sanitizer-coverage-$flag"
  done
  # A target is named so that build scripts and macros do without coverage.
  (
    cd fuzz
    RUSTFLAGS=$flags CARGO_TARGET_DIR=../target/fuzz \
      cargo build --locked --quiet --profile short --bins --target "$host"
  )
  for name in $(cd fuzz/fuzz_targets && ls ./*.rs); do
    name=$(basename "$name" .rs)
    folder=$SCRATCH/fuzz/$name
    mkdir -p "$folder/corpus"
    # Two at a time, each on a core of its own.
    [ "$(jobs -rp | wc -l)" -lt 2 ] || wait -n || true
    (
      TESTUDO_CORPUS=$folder/corpus "target/fuzz/$host/short/$name" -max_total_time="$seconds" -timeout=20 \
        -rss_limit_mb=1024 -max_len=4096 -seed=$((16#${COMMIT:0:7} + 1)) -artifact_prefix="$folder/found-" \
        -print_final_stats=1 "$folder/corpus" >"$folder/log" 2>&1 && : >"$folder/stands"
    ) &
  done
  wait
  for folder in "$SCRATCH"/fuzz/*; do
    name=$(basename "$folder")
    [ -e "$folder/stands" ] || not_stood "$name" "$folder"
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$folder/log")
    [ "${runs:-0}" -gt 0 ] || fail "$name was not fuzzed"
    printf ' %-14s %9s runs\n' "$name" "$runs"
  done
}

# not_stood TARGET FOLDER: tells what a target of the fuzzer does not stand.
not_stood() {
  tail -n 40 "$2/log" >&2
  for found in "$2"/found-*; do
    [ ! -e "$found" ] || { echo "ci: $1 does not stand" && od -An -v -tx1 "$found" | tr -d ' \n' && echo; } >&2
  done
  fail "the fuzzer finds something in $1"
}

# What takes too long where nothing is optimized: the long explorations, and strings and inputs drawn from the commit, which
# are others each time, beside the ones that never change.
optimized_tests() {
  TESTUDO_COMMIT=$COMMIT cargo test --release --locked -p testudo-pbft --test explored --test bytes
  TESTUDO_COMMIT=$COMMIT cargo test --release --locked -p testudo-decoders --test short
}

# Half of the seeds are always the same; half are drawn from the commit, so that every commit looks elsewhere, too. As
# many as there are in each half, every fault must have come about in each.
simulated_seeds() {
  local count=${TESTUDO_SEEDS:-1000} drawn sim="target/release/testudo sim"
  drawn=$((16#${COMMIT:0:10}))
  cargo build --release --locked
  $sim --seeds "0..$count"
  $sim --seeds "$drawn..$((drawn + count))"
  # One seed is one run, and parts make the whole.
  $sim --seeds 0..20 --twice
  $sim --seeds "$drawn..$((drawn + 20))" --twice --json --shard 0/2 >"$SCRATCH/part-0.json"
  $sim --seeds "$drawn..$((drawn + 20))" --twice --json --shard 1/2 >"$SCRATCH/part-1.json"
  $sim --merge "$SCRATCH/part-0.json" "$SCRATCH/part-1.json"
  # More faults than are survived: nothing may break in silence.
  $sim --beyond --seeds "0..$((count / 5))"
  $sim --beyond --seeds "$drawn..$((drawn + count / 5))"
}

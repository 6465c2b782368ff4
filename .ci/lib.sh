# The longer steps of .ci/run.

COMMIT=$(git rev-parse HEAD)
SCRATCH=$(mktemp -d)
UP_PID=""

step() { printf '\n==> %s (%s)\n' "$1" "$(date -u +%H:%M:%S)"; }

fail() { echo "ci: $1" >&2; exit 1; }

cleanup() {
  stop_up || true
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
  "$@" >"$log" 2>"$log.err" &
  UP_PID=$!
  deadline=$((SECONDS + 900))
  until grep -q '^testudo ready' "$log"; do
    kill -0 "$UP_PID" 2>/dev/null || { cat "$log" "$log.err" >&2; fail "the cluster ended before it was ready"; }
    [ "$SECONDS" -lt "$deadline" ] || { cat "$log.err" >&2; fail "the cluster was not ready in time"; }
    sleep 0.1
  done
  ETCD=$(sed -n 's/^testudo ready etcd=\([^ ]*\) .*/\1/p' "$log")
}

# need COMMAND PACKAGE: has a client installed, or says that it is skipped where nobody may install.
need() {
  command -v "$1" >/dev/null && return 0
  if [ "${CI:-}" = true ]; then
    { apt-get update -qq && apt-get install -y -qq --no-install-recommends "$2"; } >"$SCRATCH/apt.log" 2>&1 ||
      { tail -n 20 "$SCRATCH/apt.log" >&2; fail "$1 is missing and cannot be installed"; }
    return 0
  fi
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
  fi
  if need protoc protobuf-compiler; then
    (cd compat/etcd-client && CARGO_TARGET_DIR="$SCRATCH/compat" cargo build --locked --quiet)
    start_up "$SCRATCH/compat.log" target/release/testudo up --ephemeral --listen 127.0.0.1:0 --liar 1=random
    "$SCRATCH/compat/debug/testudo-compat-etcd-client" "http://$ETCD"
    stop_up
  fi
}

# Half of the seeds are always the same; half are drawn from the commit, so that every commit looks elsewhere, too.
simulated_seeds() {
  TESTUDO_SEEDS=${TESTUDO_SEEDS:-500} TESTUDO_COMMIT=$COMMIT \
    cargo test --release --locked -p testudo-pbft --test seeds -- --nocapture
}

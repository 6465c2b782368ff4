# Ports for servers of these scripts.

# free_ports COUNT: sets PORTS to so many neighbouring ports that nobody listens on, out of the range that outgoing
# connections take theirs from. Somebody may take one meanwhile: who starts a server looks whether it lives.
free_ports() {
  local count=$1 first port
  for _ in $(seq 1000); do
    first=$((10000 + RANDOM % 9000))
    PORTS=()
    for port in $(seq "$first" $((first + count - 1))); do
      ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || continue 2
      PORTS+=("$port")
    done
    return 0
  done
  echo "ci: there are no free ports" >&2
  return 1
}

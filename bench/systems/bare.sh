# bare: the client talks to a host in its own network. No balancer, no overlay, no conntrack: the lower bound of every figure.
# shellcheck shell=bash disable=SC2034
bare_up() {
  setsid nsenter -t "$(< "$NODES/bare.pid")" -m -n -u -- "$WORK/bin/serve" </dev/null &
  BARE_PID=$!
  disown
}
system_up() { :; }
paths() { :; }

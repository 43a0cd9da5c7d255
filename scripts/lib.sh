# shellcheck shell=bash
# What more than one script needs. Sourced, never run.

say() { printf '%s\n' "$*" >&2; }
die() { say "${0##*/}: $*"; exit 1; }

as_root() { if [[ $EUID -eq 0 ]]; then "$@"; elif command -v sudo >/dev/null; then sudo -n "$@"; else die "need root for: $*"; fi; }

# apt_need BINARY_OR_PATH PACKAGE…: installs the packages unless the binary is there.
apt_need() {
  local probe=$1; shift
  if [[ $probe == /* ]]; then compgen -G "$probe" >/dev/null && return; else command -v "$probe" >/dev/null && return; fi
  say "installing $*"
  local log; log=$(mktemp)
  # Output goes to a file, never to a pipe that may close early: that leaves dpkg half way.
  local apt=(env DEBIAN_FRONTEND=noninteractive apt-get -y -o DPkg::Lock::Timeout=300 --no-install-recommends)
  as_root "${apt[@]}" install "$@" >"$log" 2>&1 && { rm -f "$log"; return; }
  as_root apt-get -o DPkg::Lock::Timeout=300 update >>"$log" 2>&1 || true
  as_root dpkg --configure -a >>"$log" 2>&1 || true
  as_root "${apt[@]}" --fix-broken install >>"$log" 2>&1 || true
  as_root "${apt[@]}" install "$@" >>"$log" 2>&1 || { tail -n 15 "$log" >&2; die "apt-get install $* failed"; }
  rm -f "$log"
}

# A port that nobody listens on just now. Somebody may take it before it is used: a service then says so and stops.
free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

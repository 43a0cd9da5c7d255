# shellcheck shell=bash
# What the scripts here share. Sourced, not run.

PATH=$PATH:/usr/sbin
CONFAB_CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/confab

say() { printf '%s\n' "$*" >&2; }
now_ms() { date +%s%3N; }

as_root() {
  if [[ $EUID -eq 0 ]]; then "$@"
  elif command -v sudo >/dev/null; then sudo -n "$@"
  else say "this needs root: $*"; return 1; fi
}

# apt_need BINARY_OR_GLOB PACKAGE…: installs the packages unless the binary is there.
apt_need() {
  local probe=$1; shift
  if [[ $probe == /* ]]; then compgen -G "$probe" >/dev/null && return; else command -v "$probe" >/dev/null && return; fi
  say "installing $*"
  mkdir -p "$CONFAB_CACHE"
  # A pipe whose reader stops early would kill dpkg half way through a package, so the output goes to a file.
  local log=$CONFAB_CACHE/apt.log
  local apt=(as_root env DEBIAN_FRONTEND=noninteractive apt-get -y -o DPkg::Lock::Timeout=300)
  local attempt
  for attempt in 1 2 3; do
    "${apt[@]}" --no-install-recommends install "$@" >"$log" 2>&1 </dev/null && return
    # The package lists are empty or old, a mirror was busy, or somebody's run ended half way: mend, then again.
    "${apt[@]}" update >>"$log" 2>&1 </dev/null || sleep "$attempt"
    as_root dpkg --configure -a >>"$log" 2>&1 </dev/null || true
    "${apt[@]}" --fix-broken install >>"$log" 2>&1 </dev/null || true
  done
  tail -n 15 "$log" >&2
  say "cannot install $*"
  return 1
}

port_busy() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

#!/bin/sh
# Installs the rankfleet agent on a board: 64-bit Raspberry Pi OS or Debian 12 and 13, Ubuntu 22.04 and 24.04, JetPack 6.
# Nothing is compiled, and nothing is fetched but from the fleet's gateway. Interrupted, or run again, it mends.
# Where the Debian package rankfleet-agent is installed, it configures that one and joins.
set -eu
umask 022

GATEWAY='@GATEWAY@'
FLEET='@FLEET@'
BROKER_PORT='@BROKER_PORT@'
NEEDED_MIB=500
case $BROKER_PORT in *[!0-9]*) BROKER_PORT=8883 ;; esac

ca() {
  cat <<'CERTIFICATE'
@CA@
CERTIFICATE
}

usage() {
  cat <<USAGE
Installs the rankfleet agent of the fleet $FLEET on this board.

    sudo sh $0 --token TOKEN        install, and ask the gateway to be let in
    sudo sh $0 --upgrade            only install the gateway's newest release
    sudo sh $0 --uninstall          remove everything

  --token TOKEN     from 'rankfleet coordinator token' on the gateway
  --no-join         install only; 'rankfleet agent join' can follow later
  --bundle PATH     a bundle, or a folder or stick with one, in place of the gateway's
  --device NAME     the board's name in the fleet (its host name)
  --data PATH       a file or folder of texts (/var/lib/rankfleet/data)
  --budget-mib N    memory that the agent may use (half of what is free when it starts)
  --prefix DIR      the board's root folder, for tests (/)
  --purge           with --uninstall: delete texts and state too, without asking
  --keep-data       with --uninstall: keep texts and state, without asking
  --help            this text

Exit status: 0 done; 1 failed, the reason is on standard error; 2 wrong usage.
USAGE
}

say() { printf '%s\n' "$*"; }
fail() { printf 'rankfleet: %s\n' "$*" >&2; exit 1; }
misused() { printf "rankfleet: %s; 'sh %s --help' shows how\n" "$*" "$0" >&2; exit 2; }

parse() {
  token='' bundle='' device='' data='' budget_mib='' prefix='' action=install join=yes removal=''
  while [ $# -gt 0 ]; do
    case $1 in
      --token | --bundle | --device | --data | --budget-mib | --prefix)
        [ -n "${2:-}" ] || misused "$1 needs a value" ;;
    esac
    case $1 in
      --token) token=$2; shift ;;
      --bundle) bundle=$2; shift ;;
      --device) device=$2; shift ;;
      --data) data=$2; shift ;;
      --budget-mib) budget_mib=$2; shift ;;
      --prefix) prefix=$(cd "$2" && pwd) || misused "there is no folder $2"; prefix=${prefix%/}; shift ;;
      --no-join) join=no ;;
      --upgrade) action=upgrade ;;
      --uninstall) action=uninstall ;;
      --purge | --keep-data) removal=$1 ;;
      --help) usage; exit 0 ;;
      *) misused "$1 is no option" ;;
    esac
    shift
  done
  case $budget_mib in *[!0-9]*) misused "--budget-mib is a number of MiB, not '$budget_mib'" ;; esac
  [ -z "$removal" ] || [ "$action" = uninstall ] || misused "$removal belongs to --uninstall"
  [ -n "$device" ] || device=$(cat "$prefix/etc/hostname" 2>/dev/null || uname -n)
  case $device in '' | *[!A-Za-z0-9._-]*) misused "--device has letters, digits, '.', '_' and '-', not '$device'" ;; esac
  home=$prefix/opt/rankfleet
  config=$prefix/etc/rankfleet/agent.toml
  rankfleet=$home/current/bin/rankfleet
  identity=$prefix/var/lib/rankfleet/identity
  package=$prefix/usr/lib/rankfleet-agent
  packaged=no
  if [ -d "$package" ] && [ ! -L "$home/current" ]; then
    packaged=yes
    rankfleet=$prefix/usr/bin/rankfleet
    [ -z "$bundle" ] || misused "the agent is that of the Debian package here, leave --bundle out"
  fi
}

check_user() {
  [ -n "$prefix" ] || [ "$(id -u)" -eq 0 ] || fail "root is needed: put 'sudo' before the command"
}

check_system() {
  [ -r "$prefix/etc/os-release" ] || fail "this system does not say what it is: /etc/os-release is missing"
  # shellcheck disable=SC1091 # it is the board's
  system=$(. "$prefix/etc/os-release" && printf '%s %s' "${ID:-unknown}" "${VERSION_ID:-}")
  # shellcheck disable=SC1091
  named=$(. "$prefix/etc/os-release" && printf '%s' "${PRETTY_NAME:-$system}")
  newer='write the 64-bit Raspberry Pi OS (bookworm or trixie) to the card with Raspberry Pi Imager'
  case $system in
    raspbian*) fail "$named is a 32-bit system, and there are no libraries for it: $newer" ;;
    alpine*) fail "$named has another C library than the agent's libraries are made for: use Debian or Ubuntu" ;;
    'debian 12' | 'debian 13' | 'ubuntu 22.04' | 'ubuntu 24.04') ;;
    'debian 11' | 'debian 10' | 'debian 9') fail "$named is too old: $newer" ;;
    'ubuntu 18.04' | 'ubuntu 20.04')
      fail "$named is too old: install Ubuntu 22.04 or 24.04; a Jetson: flash JetPack 6 with NVIDIA SDK Manager" ;;
    *) fail "$named is not among the systems that the agent is made for: Raspberry Pi OS or Debian 12 and 13," \
      "Ubuntu 22.04 and 24.04, JetPack 6; install one of those" ;;
  esac
  machine=$(uname -m)
  case $machine in
    aarch64 | x86_64) ;;
    arm*) fail "$named runs on a 32-bit kernel ($machine): $newer; a Pi older than the 3 cannot run it" ;;
    *) fail "a processor of the kind $machine is not supported: only aarch64 and x86_64 are" ;;
  esac
}

check_tools() {
  missing=
  command -v python3 >/dev/null && python3 -c 'import json, ssl, tarfile, venv, zipfile' 2>/dev/null ||
    missing="$missing python3"
  command -v openssl >/dev/null || missing="$missing openssl"
  [ -n "$bundle" ] || [ $packaged = yes ] || command -v curl >/dev/null || missing="$missing curl"
  [ -z "$missing" ] || fail "some programs are missing; install them with: sudo apt install$missing"
  python=$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')
  case $python in
    3.10 | 3.11 | 3.12 | 3.13 | 3.14) ;;
    *) fail "python3 is Python $python, the agent needs 3.10 to 3.14: use the Python that came with the system" ;;
  esac
  [ "$(python3 -c 'import struct; print(struct.calcsize("P"))')" = 8 ] ||
    fail "the kernel has 64 bits, but the system's programs have 32: $newer"
}

check_disk() {
  folder=$home
  while [ ! -d "$folder" ]; do folder=$(dirname "$folder"); done
  free_mib=$(df -Pk "$folder" | awk 'NR == 2 { print int($4 / 1024) }')
  [ "$free_mib" -ge "$NEEDED_MIB" ] ||
    fail "$folder has $free_mib MiB free, $NEEDED_MIB are needed: delete something, or use a larger card"
}

# --- the bundle

fetch() {
  curl --fail --silent --show-error --location --proto '=https' --connect-timeout 20 --retry 3 \
    --cacert "$work/ca.pem" --output "$2" "$GATEWAY$1" || {
    status=$?
    case $status in
      60 | 35) fail "the gateway $GATEWAY is not the one of this fleet, or the clock is wrong (it shows $(date -u))" ;;
      *) fail "the gateway $GATEWAY cannot be reached: is it on, and in this network? (curl ended with status $status)" ;;
    esac
  }
}

# Prints name and sha256 of the newest bundle for this board, in a list as the gateway gives it.
newest() {
  python3 - "$machine" "$python" "$1" <<'PYTHON'
import json, re, sys

machine, python, path = sys.argv[1:]
with open(path) as file:
    bundles = [one for one in json.load(file) if (one["machine"], one["python"]) == (machine, python)]
bundles.sort(key=lambda one: [int(number) for number in re.findall("[0-9]+", one["version"])])
for one in bundles[-1:]:
    if re.fullmatch(r"[A-Za-z0-9._+-]+", one["name"]) and re.fullmatch("[0-9a-f]{64}", one["sha256"]):
        print(one["name"], one["sha256"])
PYTHON
}

fetch_bundle() {
  say "Asking the gateway $GATEWAY for the agent for $machine with Python $python."
  fetch /v1/bundles "$work/bundles.json"
  chosen=$(newest "$work/bundles.json") || fail "the gateway's list of bundles cannot be read: update the gateway"
  [ -n "$chosen" ] || fail "the gateway has no agent for $machine with Python $python. On the gateway, run:" \
    "rankfleet deploy bundle --target $machine --python $python --fleet FOLDER --out bundles"
  name=${chosen% *}
  bundle=$work/$name
  say "Fetching $name."
  fetch "/v1/bundles/$name" "$bundle"
  printf '%s  %s\n' "${chosen#* }" "$bundle" | sha256sum --check --status ||
    fail "$name did not arrive as it was sent: run this again"
}

find_bundle() {
  if [ -d "$bundle" ]; then
    stick=$bundle
    suffix=$machine-cp$(printf %s "$python" | tr -d .).tar
    bundle=$(find "$stick" -maxdepth 1 -name "rankfleet-agent-*-$suffix" | sort -V | tail -n 1)
    [ -n "$bundle" ] || fail "$stick holds no agent for $machine with Python $python. On the gateway, run:" \
      "rankfleet deploy bundle --target $machine --python $python --out FOLDER"
    pack=$(find "$stick" -maxdepth 1 -name 'rankfleet-pack-*.tar' | sort | tail -n 1)
  fi
  [ -f "$bundle" ] || fail "there is no bundle $bundle"
  sums=$(dirname "$bundle")/SHA256SUMS
  if [ -f "$sums" ]; then
    (cd "$(dirname "$bundle")" && sha256sum --check --status --ignore-missing SHA256SUMS) ||
      fail "what is beside $sums is not as it says: copy it again"
  fi
  say "Using $bundle."
}

# The installer proper is in the bundle: rankfleet's own wheel, which needs nothing but Python.
take_wheel() {
  python3 - "$bundle" "$work/rankfleet.whl" <<'PYTHON' || fail "$bundle is no bundle: make or fetch it again"
import sys, tarfile

with tarfile.open(sys.argv[1], "r:") as tar:
    member = next(one for one in tar if one.isreg() and one.name.startswith("wheels/rankfleet-"))
    with open(sys.argv[2], "wb") as file:
        file.write(tar.extractfile(member).read())
PYTHON
}

take_pack() {
  mkdir "$work/pack"
  python3 - "$pack" "$work/pack" <<'PYTHON' || fail "$pack is no model pack: copy it again"
import os, shutil, sys, tarfile

with tarfile.open(sys.argv[1], "r:") as tar:
    for member in tar:
        if not member.isreg() or os.path.basename(member.name) != member.name:
            raise SystemExit("%s does not belong into a pack" % member.name)
        with open(os.path.join(sys.argv[2], member.name), "wb") as file:
            shutil.copyfileobj(tar.extractfile(member), file)
PYTHON
}

releases() {
  command=$1
  shift
  modules=$work/rankfleet.whl
  [ $packaged = no ] || modules=$package
  PYTHONPATH=$modules python3 -B -m edge_agent.releases "$command" --prefix "${prefix:-/}" "$@"
}

# --- what is done

prepare() {
  check_user
  check_system
  check_tools
  check_disk
  say "This board: $named, $machine, Python $python, $free_mib MiB free."
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  trap 'exit 130' INT TERM HUP
  ca >"$work/ca.pem"
  pack=
  [ $packaged = no ] || return 0
  if [ -n "$bundle" ]; then find_bundle; else fetch_bundle; fi
  take_wheel
}

install_agent() {
  set -- --device "$device" --fleet "$FLEET" --gateway "$GATEWAY" --broker-port "$BROKER_PORT" --ca "$work/ca.pem"
  [ -z "$data" ] || set -- "$@" --data "$data"
  [ -z "$budget_mib" ] || set -- "$@" --budget-mib "$budget_mib"
  if [ $packaged = yes ]; then
    say "The agent of the Debian package is configured; apt keeps it up to date."
    releases configure "$@"
    return
  fi
  if [ -n "$pack" ]; then
    take_pack
    set -- "$@" --pack "$work/pack"
  fi
  say "Installing into $home. On a slow card this takes some minutes."
  releases install "$bundle" "$@"
}

knows() { "$rankfleet" agent "$1" --help >/dev/null 2>&1; }

join_fleet() {
  if [ "$join" = no ]; then
    say "Not joining, as asked. Later: sudo rankfleet agent join $config --token TOKEN"
  elif [ -n "$token" ]; then
    say "Asking the gateway to let $device in."
    "$rankfleet" agent join "$config" --token "$token"
  else
    say "This board has joined the fleet $FLEET already. If it was put out: run this again with --token TOKEN"
  fi
}

install_services() {
  if [ $packaged = no ]; then
    knows unit || return 0
    "$rankfleet" agent unit "$config" --install --root "${prefix:-/}" >/dev/null
  fi
  if [ -z "$prefix" ] && [ -d /run/systemd/system ] && [ ! -s "$identity/device.pem" ]; then
    systemctl daemon-reload
    say "The agent is not started, for this board is no member yet. When it is, run this again."
  elif [ -z "$prefix" ] && [ -d /run/systemd/system ]; then
    systemctl daemon-reload
    systemctl enable --quiet --now rankfleet-agent.service rankfleet-update.timer
    say "The agent runs, and starts with the board. What it does: journalctl -u rankfleet-agent"
  else
    say "Services are in place, but no systemd runs here: by hand, the agent starts with: rankfleet agent run $config"
  fi
}

parse "$@"
case $packaged-$action in
  yes-upgrade) fail "apt keeps the agent on this board up to date: install a newer package rankfleet-agent" ;;
  yes-uninstall) fail "apt removes the agent from this board: apt purge rankfleet-agent" ;;
esac
case $action in
  uninstall)
    check_user
    [ -x "$home/current/bin/python" ] || fail "nothing is installed in $home; a damaged installation: install it again first"
    # shellcheck disable=SC2086 # without a choice there is no word
    exec "$home/current/bin/python" -B -m edge_agent.releases uninstall --prefix "${prefix:-/}" $removal
    ;;
  upgrade)
    prepare
    say "Upgrading; the agent goes on until its round is over."
    releases upgrade "$bundle"
    ;;
  install)
    [ -n "$token" ] || [ "$join" = no ] || [ -s "$identity/device.pem" ] || misused "--token TOKEN or --no-join is needed"
    prepare
    install_agent
    join_fleet
    install_services
    say "Done. What is wrong with this board, if anything: rankfleet agent doctor $config"
    ;;
esac

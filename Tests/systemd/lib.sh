# What tests share. Everything is traced, so that a failure shows its last line.
set -x
export DEBIAN_FRONTEND=noninteractive

# eventually SECONDS COMMAND… – until it succeeds.
eventually() {
    local end=$((SECONDS + $1))
    shift
    until "$@"; do
        [ $SECONDS -lt $end ] || return 1
        sleep 0.1
    done
}
# refused COMMAND… – must fail; “!” alone would be forgiven.
refused() {
    if "$@"; then return 1; fi
}
state() { systemctl show -P "$1" "${2:-tdxd.service}"; }
main_pid() { state MainPID; }
holder_of() { tdxctl show "$1" --json=short | sed -n 's/.*"holder_pid":\([0-9]*\).*/\1/p'; }
state_of() { tdxctl show "$1" --json=short | sed -n 's/.*"state":"\([a-z]*\)".*/\1/p'; }
is_alive() { [ -d "/proc/$1" ] && ! grep -q '^State:.Z' "/proc/$1/status"; }
is_gone() { ! is_alive "$1"; }
serves() { tdxctl list >/dev/null; }
# Another tdxd than the one with that number serves.
replaced() { [ "$(main_pid)" != 0 ] && [ "$(main_pid)" != "$1" ] && [ "$(state ActiveState)" = active ] && serves; }
has_state() { [ "$(state ActiveState)" = "$1" ]; }
has_journal() { journalctl -u tdxd.service -o cat --no-pager | grep -q -- "$1"; }
# settings TEXT – a configuration of tests' own; "" for none.
settings() {
    mkdir -p /etc/tdxd/tdxd.conf.d
    printf '%s\n' "$1" >/etc/tdxd/tdxd.conf.d/test.conf
}

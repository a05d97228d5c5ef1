# The package installs, and tdxd serves, as a user of its own and locked in.
[ ! -c /dev/kvm ] || { getent group kvm || groupadd --system kvm; chgrp kvm /dev/kvm; chmod 660 /dev/kvm; }
dpkg -i /tests/tdxd.deb
[ "$(systemctl is-enabled tdxd.service tdxd.socket | sort -u)" = enabled ]
eventually 20 systemctl is-active tdxd.service
[ "$(state Type)" = notify ]
[ "$(stat -c %U "/proc/$(main_pid)")" = tdxd ]
id -nG tdxd | grep -qw kvm
grep -q '^CapEff:.0000000000000000$' "/proc/$(main_pid)/status"
grep -q '^NoNewPrivs:.1$' "/proc/$(main_pid)/status"
grep -q '^Seccomp:.2$' "/proc/$(main_pid)/status"
serves
# It may start no program and ask nothing of KVM any more: two filters more than what systemd gave it, of which the launcher of holders
# has one more, in a fence and a session of its own and in the same control group.
launcher=$(pgrep -P "$(main_pid)" -f 'tdx-holder launch')
filters() { sed -n 's/^Seccomp_filters:.//p' "/proc/$1/status"; }
[ "$(filters "$(main_pid)")" -eq $(($(filters "$launcher") + 1)) ]
[ "$(stat -c %U "/proc/$launcher")" = tdxd ]
grep -q '^NoNewPrivs:.1$' "/proc/$launcher/status"
[ "$(grep '^0::' "/proc/$launcher/cgroup")" = "$(grep '^0::' "/proc/$(main_pid)/cgroup")" ]
tdxctl ok
# READY came with a status, and it says what is there.
state StatusText | grep -q '0 TDs running'

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
tdxctl ok
# READY came with a status, and it says what is there.
state StatusText | grep -q '0 TDs running'

# While there is a TD logind refuses a shutdown with the reason, and not a moment longer than that.
inhibitors() { systemd-inhibit --list --no-legend --no-pager | grep -c '^tdxd ' || true; }
guarded() { [ "$(inhibitors)" = 1 ]; }
unguarded() { [ "$(inhibitors)" = 0 ]; }
eventually 5 unguarded
tdxctl create guarded --memory 128M
eventually 10 guarded
refused systemctl poweroff --check-inhibitors=yes 2>/run/refusal
grep -q tdxd /run/refusal
# Also while tdxd is down: the memory is still there.
systemctl stop tdxd.service
sleep 1
guarded
tdxctl stop guarded
eventually 10 unguarded
# The next TD is guarded again.
tdxctl create again --memory 128M
eventually 10 guarded
tdxctl stop again
eventually 10 unguarded

# A killed tdxd comes back by itself and has its TDs; so does one that hangs, by the watchdog.
tdxctl create survivor --memory 128M
holder=$(holder_of survivor)
before=$(main_pid)
kill -KILL "$before"
eventually 30 replaced "$before"
[ "$(holder_of survivor)" = "$holder" ]

mkdir -p /run/systemd/system/tdxd.service.d
printf '[Service]\nWatchdogSec=2s\n' >/run/systemd/system/tdxd.service.d/watchdog.conf
systemctl daemon-reload
before=$(main_pid)
systemctl restart tdxd.service
eventually 20 replaced "$before"
before=$(main_pid)
# It answers for longer than the watchdog's time.
sleep 5
[ "$(main_pid)" = "$before" ]
kill -STOP "$before"
eventually 60 replaced "$before"
journalctl --no-pager -o cat | grep -q 'Watchdog timeout'
[ "$(holder_of survivor)" = "$holder" ]
[ "$(state_of survivor)" = runnable ]
tdxctl stop survivor
rm -r /run/systemd/system/tdxd.service.d
systemctl daemon-reload
before=$(main_pid)
systemctl restart tdxd.service
eventually 20 replaced "$before"

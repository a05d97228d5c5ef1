# A killed tdxd comes back by itself and has its TDs; so does one that hangs, by the watchdog.
tdxctl create survivor --memory 128M
holder=$(holder_of survivor)
before=$(main_pid)
kill -KILL "$before"
eventually 30 replaced "$before"
[ "$(holder_of survivor)" = "$holder" ]

reloaded() { journalctl "_PID=$(main_pid)" -o cat --no-pager | grep -q 'read the configuration again'; }
# With its launcher killed tdxd ends in order, for systemd to start it again; on_stop = drain is not for that.
settings '[service]
on_stop = drain'
before=$(main_pid)
systemctl restart tdxd.service
eventually 20 replaced "$before"
[ "$(holder_of survivor)" = "$holder" ]
before=$(main_pid)
launcher=$(pgrep -P "$before" -f 'tdx-holder launch')
kill -KILL "$launcher"
eventually 30 replaced "$before"
has_journal 'the launcher of holders has ended'
is_gone "$launcher"
[ "$(holder_of survivor)" = "$holder" ]
[ "$(state_of survivor)" = runnable ]
settings ''
systemctl reload tdxd.service
eventually 20 reloaded
# The new one starts holders.
tdxctl create another --memory 128M
tdxctl stop another

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

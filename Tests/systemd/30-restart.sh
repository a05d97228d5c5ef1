# systemctl restart, reload and stop leave TDs running; the next tdxd has them.
tdxctl create kept --memory 128M
holder=$(holder_of kept)
before=$(main_pid)
systemctl restart tdxd.service
eventually 20 replaced "$before"
[ "$(holder_of kept)" = "$holder" ]
[ "$(state_of kept)" = runnable ]
tdxctl convert kept --gpa 0x200000 --size 2M --to shared

before=$(main_pid)
systemctl reload tdxd.service
[ "$(main_pid)" = "$before" ]
eventually 10 has_journal 'read the configuration again'
settings '[limits]
trust_domains = many'
# The reload fails, with the reason, and tdxd goes on as it was.
refused systemctl reload tdxd.service
eventually 10 has_journal 'trust_domains is “many”'
[ "$(main_pid)" = "$before" ]
serves
# A signal asks no check before it; tdxd refuses by itself.
kill -HUP "$before"
eventually 10 has_journal 'the configuration is not changed'
serves
# It does not start with such a configuration, and is not started again and again.
systemctl stop tdxd.socket tdxd.service
refused systemctl start tdxd.service
eventually 20 has_state failed
[ "$(state ExecMainStatus)" = 78 ] && [ "$(state NRestarts)" = 0 ]
is_alive "$holder"
settings ''
systemctl reset-failed tdxd.service
systemctl start tdxd.socket tdxd.service
eventually 20 serves

# Stopped, the holder runs on, and the first client starts tdxd by its socket.
systemctl stop tdxd.service
is_alive "$holder"
[ "$(state ActiveState)" = inactive ]
[ "$(state ActiveState tdxd.socket)" = active ]
[ "$(state_of kept)" = runnable ]
[ "$(holder_of kept)" = "$holder" ]
[ "$(state ActiveState)" = active ]
tdxctl stop kept
eventually 20 is_gone "$holder"

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
systemctl reload tdxd.service || true
eventually 10 has_journal 'the configuration is not changed'
serves
settings ''

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

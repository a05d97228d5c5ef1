# With on_stop = drain an orderly stop ends every TD first, and proves it.
settings '[service]
on_stop = drain'
before=$(main_pid)
systemctl restart tdxd.service
eventually 20 replaced "$before"
for name in drain1 drain2 drain3; do tdxctl create $name --memory 128M; done
holders="$(holder_of drain1) $(holder_of drain2) $(holder_of drain3)"
systemctl stop tdxd.service
for holder in $holders; do is_gone "$holder"; done
settings ''
systemctl start tdxd.service
eventually 20 serves
for name in drain1 drain2 drain3; do tdxctl certificate show $name; done
[ "$(tdxctl list --json=short)" = '[]' ]

# The same by hand, which outlives a restart.
tdxctl create drain4 --memory 128M
tdxctl drain --for kexec
tdxctl kexec check
before=$(main_pid)
systemctl restart tdxd.service
eventually 20 replaced "$before"
refused tdxctl create drain5 --memory 128M
tdxctl drain --undo
tdxctl create drain5 --memory 128M
tdxctl stop drain5

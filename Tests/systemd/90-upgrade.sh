# A later package replaces tdxd under running TDs; a removal is refused as long as there are any, and leaves nothing.
tdxctl create upgraded --memory 128M
holder=$(holder_of upgraded)
before=$(main_pid)
tdxctl convert upgraded --gpa 0x400000 --size 2M --to shared
printf '# an admin was here\n' >>/etc/tdxd/tdxd.conf
dpkg --force-confold -i /tests/tdxd-later.deb
eventually 20 replaced "$before"
dpkg-query -W -f='${Version}' tdxd | grep -q '+2$'
grep -q 'an admin was here' /etc/tdxd/tdxd.conf
[ "$(holder_of upgraded)" = "$holder" ]
[ "$(state_of upgraded)" = runnable ]
# What the former holder knows is known, and its TD can be used on.
tdxctl map upgraded | grep -qi '400000.*shared'
tdxctl convert upgraded --gpa 0x200000 --size 2M --to shared
tdxctl convert upgraded --gpa 0x400000 --size 2M --to private
tdxctl verify upgraded
tdxctl inventory --ranges | grep -q upgraded
tdxctl metrics | grep -q 'upgraded'

refused dpkg --remove tdxd
serves
[ "$(state_of upgraded)" = runnable ]
tdxctl drain --for maintenance
dpkg --remove tdxd
is_gone "$holder"
refused systemctl is-active tdxd.service tdxd.socket
[ ! -e /usr/bin/tdxd ]
[ ! -e /run/tdxd ]
ls /var/lib/tdxd/certificates | grep -q upgraded
dpkg --purge tdxd
[ ! -e /var/lib/tdxd ]
[ ! -e /etc/tdxd/tdxd.conf ]

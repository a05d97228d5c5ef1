# systemd keeps tdxd's duplicates of guest memory while there is no tdxd: what a holder leaves that dies at the same time is
# given back in steps and measured, and systemd keeps nothing of a TD that has ended.
stored() { state NFileDescriptorStore; }
[ "$(stored)" = 0 ]
tdxctl create together --memory 128M --preallocate
count=$(stored)
[ "$count" -gt 0 ]
holder=$(holder_of together)
before=$(main_pid)
systemctl restart tdxd.service
eventually 20 replaced "$before"
[ "$(stored)" = "$count" ]
[ "$(holder_of together)" = "$holder" ]
before=$(main_pid)
kill -KILL "$before" "$holder"
eventually 30 replaced "$before"
proven() { tdxctl certificate show together --json=short | grep -q '"complete":true'; }
eventually 30 proven
tdxctl certificate show together --json=short | grep -q '"holder_died":true'
tdxctl certificate show together --json=short | grep -q '"name":"reap"'
tdxctl certificate show together | grep -q 'residency_zero.*cachestat'
tdxctl stop together
eventually 10 test "$(stored)" = 0

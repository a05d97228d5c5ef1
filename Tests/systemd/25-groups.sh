# Each holder has a control group with its TD's name below the service's own, also after a restart of tdxd, and none is left.
group_of() { sed -n 's/^0:://p' "/proc/$1/cgroup"; }
service=$(state ControlGroup)
tdxctl create grouped --memory 128M
holder=$(holder_of grouped)
[ "$(group_of "$holder")" = "$service/td-grouped" ]
systemctl status --no-pager tdxd.service | grep -q 'td-grouped'
# From systemd 254 on tdxd is in a group below, and the service's own has no process: then controllers can be enabled.
if [ "$(systemctl --version | sed -n '1s/systemd \([0-9]*\).*/\1/p')" -ge 254 ]; then
    [ "$(group_of "$(main_pid)")" = "$service/tdxd" ]
else
    [ "$(group_of "$(main_pid)")" = "$service" ]
fi
before=$(main_pid)
systemctl restart tdxd.service
eventually 20 replaced "$before"
[ "$(holder_of grouped)" = "$holder" ]
[ "$(group_of "$holder")" = "$service/td-grouped" ]
tdxctl stop grouped
refused grep -rqs . "/sys/fs/cgroup$service/td-grouped/cgroup.procs" "/sys/fs/cgroup/unified$service/td-grouped/cgroup.procs"

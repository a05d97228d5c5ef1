# tdxd may start no program and ask nothing of KVM any more: it has two filters more than systemd gave it, and the launcher of
# holders one, in a fence and a session of its own and in the same control group.
launcher=$(pgrep -P "$(main_pid)" -f 'tdx-holder launch')
filters() { sed -n 's/^Seccomp_filters:.//p' "/proc/$1/status"; }
[ "$(filters "$(main_pid)")" -eq $(($(filters "$launcher") + 1)) ]
[ "$(stat -c %U "/proc/$launcher")" = tdxd ]
grep -q '^NoNewPrivs:.1$' "/proc/$launcher/status"
[ "$(grep '^0::' "/proc/$launcher/cgroup")" = "$(grep '^0::' "/proc/$(main_pid)/cgroup")" ]

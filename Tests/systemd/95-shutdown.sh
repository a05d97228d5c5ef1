# The system goes down with a TD: it is ended first. What is seen of that is seen from outside.
dpkg -i /tests/tdxd.deb
eventually 20 serves
tdxctl create last --memory 128M
mkdir -p /run/systemd/system/tdxd-drain.service.d
printf '[Service]\nReadWritePaths=/results\nExecStopPost=/bin/cp -r /var/lib/tdxd/certificates /results/\n' \
    >/run/systemd/system/tdxd-drain.service.d/evidence.conf
systemctl daemon-reload
[ "$(state ActiveState tdxd-drain.service)" = active ]
touch /results/shutdown-expected

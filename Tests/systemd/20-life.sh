# A TD's life through the installed programs; the journal has it with fields.
tdxctl create life --memory 128M
state StatusText
eventually 10 sh -c 'systemctl show -P StatusText tdxd.service | grep -q "1 TDs running"'
# Firmware that only its owner reaches: tdxctl opens it, tdxd (another user, without /root) need not.
if [ -r /usr/share/ovmf/OVMF.fd ]; then
    install -m 0600 /usr/share/ovmf/OVMF.fd /root/private.fd
    tdxctl create private-firmware --memory 128M --firmware /root/private.fd
    tdxctl stop private-firmware
fi
tdxctl convert life --gpa 0x200000 --size 2M --to shared
[ "$(state_of life)" = runnable ]
tdxctl stop life
tdxctl certificate show life
eventually 10 has_journal 'a TD has ended, all proven'
# Fields, not text alone.
journalctl -u tdxd.service -o verbose --no-pager | grep -q 'TDXD_TD=life'
# By the kind of event, too, with what the catalog says of it.
ended=$(sed -n '/^-- /{s/^-- //;h};/^Subject:.*has ended, all proven/{x;p}' /usr/lib/systemd/catalog/tdxd.catalog)
[ ${#ended} = 32 ]
[ "$(journalctl -u tdxd.service "MESSAGE_ID=$ended" -o cat --no-pager | tail -n 1)" = 'a TD has ended, all proven' ]
journalctl -u tdxd.service "MESSAGE_ID=$ended" -x --no-pager | grep -q 'TD life has ended, all proven'

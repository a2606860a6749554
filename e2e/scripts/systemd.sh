say calendar systemd-analyze calendar --base-time='2026-01-01 00:00:00 UTC' --iterations=20 'Mon..Fri *-*-1..7 09/2:30:00'
say timespan systemd-analyze timespan '3years 2weeks 17.5s'
say verify systemd-analyze verify --man=no /lib/systemd/system/systemd-journald.service /lib/systemd/system/multi-user.target
say syscalls bash -c 'systemd-analyze syscall-filter | sha256sum; systemd-analyze exit-status | sha256sum; systemd-analyze capability | sha256sum'
say security systemd-analyze security --offline=true --no-pager /lib/systemd/system/systemd-journald.service
say units bash -c 'systemctl --root=/ --no-pager list-unit-files | grep -v memproxy | grep -v "unit files listed"'
say enable bash -c 'mkdir -p r/etc/systemd/system; printf "[Service]\nExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target\n" > r/etc/systemd/system/a.service; systemctl --root=/tmp/w/r enable a.service; systemctl --root=/tmp/w/r is-enabled a.service; systemctl --root=/tmp/w/r mask b.service; systemctl --root=/tmp/w/r preset-all; find r | sort'
say tmpfiles bash -c 'printf "d /a 0750 root root -\nf /a/f 0640 root root - text\nL /a/l - - - - f\n" > t.conf; mkdir tr; systemd-tmpfiles --create --root=/tmp/w/tr /tmp/w/t.conf; find tr -printf "%P %m %l\n" | sort'
say tmpfiles-all bash -c 'systemd-tmpfiles --cat-config | sha256sum'
say sysusers bash -c 'mkdir -p sr/etc; printf "u one 777 \"a user\" /none\ng two 888\n" > u.conf; systemd-sysusers --root=/tmp/w/sr /tmp/w/u.conf; cat sr/etc/passwd sr/etc/group'
say escape systemd-escape --path '/a b/c-d/ü' --suffix=mount
say delta systemd-delta --no-pager --diff=no
say path systemd-path
say cat systemctl --root=/ cat systemd-tmpfiles-clean.timer
say not-running bash -c 'systemctl status; loginctl; busctl; timedatectl; hostnamectl' 
say versions bash -c 'systemctl --version; journalctl --version | head -n 1'

echo 'root:Secret-number-1' | chpasswd
echo 'soak:Secret-number-2' | chpasswd
echo 'soak ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/soak
chmod 440 /etc/sudoers.d/soak
for file in /usr/bin/su /usr/bin/sudo /usr/bin/passwd /usr/bin/mount /usr/bin/chsh /usr/bin/newgrp /usr/bin/chage; do
    say "mode-$(basename $file)" stat -c '%A %U:%G %n' $file
done
say su as_user bash -c 'echo Secret-number-1 | su root -c "id; sleep 0.5"'
say su-wrong as_user bash -c 'echo wrong | su root -c id'
say su-down su soak -s /bin/sh -c 'id; ulimit -c; sort /etc/passwd | wc -l'
say sudo as_user sudo -n bash -c 'id; sleep 0.5; sort /etc/shadow | cut -d: -f1 | sha256sum'
say sudo-user as_user sudo -n -u www-data id
say sudo-list as_user sudo -n -l
say sudo-env as_user env LD_PRELOAD=/none.so MALLOC_CONF=x:y MEMPROXY_ROUTE=custom sudo -n env
say sudo-many as_user bash -c 'for i in $(seq 100); do sudo -n true || echo no; done'
say visudo visudo -c
say passwd as_user bash -c 'printf "Secret-number-2\nAnother-secret-3\nAnother-secret-3\n" | passwd'
say passwd-wrong as_user bash -c 'printf "nonsense\n" | passwd'
say su-new as_user bash -c 'echo Another-secret-3 | su soak -c "id -un"'
say passwd-s passwd -S soak
say chage as_user chage -l soak
say chsh as_user bash -c 'echo Another-secret-3 | chsh -s /bin/sh'
say newgrp as_user bash -c 'echo id -gn | newgrp soak'
say mount as_user mount /proc /mnt
say umount as_user umount /proc
say mounted as_user bash -c 'mount | grep -c proc'
say expiry as_user expiry -c
say useradd bash -c 'useradd -m -s /bin/bash another; echo another:Word-for-it-9 | chpasswd; su - another -c "pwd; id -un"; gpasswd -a another games; groups another; userdel -r another'

# How scripts/kernel-lab runs a command on its kernel; sourced by it, not run.

# initial_files IMAGE COMMAND... – makes $scratch/initramfs: the first process (scripts/lab/init.c) and what it is to run.
initial_files() {
    local image=$1 name
    shift
    # Linked once for each of its versions; who comes at the same time makes the same file.
    local init
    init=$state/init-$(sha256sum <scripts/lab/init.c | cut -c 1-12)
    if [ ! -x "$init" ]; then
        gcc -static -O2 -Wall -Wextra -Werror scripts/lab/init.c -o "$scratch/init" || fail "scripts/lab/init.c does not compile"
        mv -T "$scratch/init" "$init"
    fi
    cp "$init" "$scratch/init"
    # One stream if both of the caller's are the same file, so that their order is kept.
    local streams=apart
    [ "$(stat -Lc %d:%i /proc/$$/fd/1 2>/dev/null)" != "$(stat -Lc %d:%i /proc/$$/fd/2 2>/dev/null)" ] || streams=merge
    {
        printf '%s\0' "$streams" "$folder" "PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin" HOME=/root LANG=C.UTF-8
        while IFS= read -r name; do printf '%s\0' "$name=${!name}"; done < <(compgen -e -X '!TDXD_*')
        printf '\0'
        printf '%s\0' "$@"
    } >"$scratch/command"
    cat >"$scratch/files" <<FILES
dir /dev 0755 0 0
nod /dev/console 0600 0 0 c 5 1
file /init init 0755 0 0
file /command command 0600 0 0
FILES
    (cd "$scratch" && "$image/gen_init_cpio" files >initramfs) || fail "the initramfs could not be made"
}

# boot COMMAND... – runs COMMAND on the newest kernel built and ends with its status.
boot() {
    local image
    image=$(images | tail -n 1)
    [ -n "$image" ] || fail "no kernel is built; scripts/kernel-lab --build-only does it (5 to 20 minutes)"
    command -v qemu-system-x86_64 >/dev/null || fail "no qemu-system-x86_64 (apt-get install qemu-system-x86)"
    [ $nodes -le "$processors" ] || fail "two NUMA nodes take two processors at least"
    scratch=$(mktemp -d)
    initial_files "$image" "$@"

    local machine=(-machine q35,accel=tcg -cpu max,+svm -smp "$processors" -m "${memory}M" -nodefaults -display none
        -no-reboot -kernel "$image/bzImage" -initrd "$scratch/initramfs" -append "console=ttyS0 panic=-1 quiet"
        -chardev "file,id=console,path=$scratch/console" -serial chardev:console
        -virtfs "local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap"
        -device virtio-serial-pci)
    local port name
    for port in 1:output 2:error 3:status; do
        name=${port#*:}
        machine+=(-chardev "file,id=$name,path=$scratch/$name" -device "virtserialport,chardev=$name,nr=${port%:*}")
    done
    if [ $nodes = 2 ]; then
        local half=$((memory / 2))
        machine+=(-object "memory-backend-ram,id=node0,size=${half}M" -object "memory-backend-ram,id=node1,size=$((memory - half))M"
            -numa node,nodeid=0,cpus=0,memdev=node0 -numa "node,nodeid=1,cpus=1$([ "$processors" = 2 ] || echo "-$((processors - 1))"),memdev=node1")
    fi

    # QEMU writes into two pipes that are read into the caller's streams.
    mkfifo "$scratch/output" "$scratch/error"
    cat "$scratch/output" &
    local readers=($!)
    cat "$scratch/error" >&2 &
    readers+=($!)
    local status=0
    # A process group of its own: it ends with this script.
    set -m
    timeout --kill-after=5 "$seconds" qemu-system-x86_64 "${machine[@]}" </dev/null >"$scratch/qemu" 2>&1 &
    job=$!
    set +m
    wait "$job" || status=$?
    job=
    # Where QEMU never opened the pipes, the readers still wait for that.
    : 3<>"$scratch/output" 4<>"$scratch/error"
    wait "${readers[@]}" || true
    [ $status -ne 124 ] && [ $status -ne 137 ] || { tell "no end in $seconds s"; exit 124; }
    local result=
    [ ! -s "$scratch/status" ] || read -r result <"$scratch/status"
    if [ $status -ne 0 ] || [[ ! $result =~ ^[0-9]+$ ]]; then
        cat "$scratch/qemu" >&2
        [ ! -s "$scratch/console" ] || tail -n 20 "$scratch/console" | tr -d '\r' >&2
        fail "the machine ended without the command's status (QEMU's is $status)"
    fi
    exit "$result"
}

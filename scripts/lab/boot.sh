# How scripts/kernel-lab runs a command on its kernel; sourced by it, not run.

# initial_files COMMAND... – makes $scratch/initramfs: the first process (scripts/lab/init.c) and what it is to run.
initial_files() {
    local name
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
    {
        entry dev 040755
        entry dev/console 020600 /dev/null 5 1
        entry init 0100755 "$scratch/init"
        entry command 0100600 "$scratch/command"
        entry 'TRAILER!!!' 0
    } >"$scratch/initramfs" || fail "the initramfs could not be made"
}

# entry NAME MODE [FILE [MAJOR MINOR]] – one file of a cpio archive in the form "newc", which the kernel unpacks. Its
# numbers are eight hexadecimal digits; header with name, and contents, end at multiples of 4 bytes.
entry() {
    local name=$1 file=${3:-/dev/null} size
    size=$(stat -Lc %s "$file")
    printf '070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\0' 0 "$(($2))" 0 0 1 0 "$size" 0 0 \
        "${4:-0}" "${5:-0}" $((${#name} + 1)) 0 "$name"
    head -c $(((4 - (110 + ${#name} + 1) % 4) % 4)) /dev/zero
    cat "$file"
    head -c $(((4 - size % 4) % 4)) /dev/zero
}

# seam_kernel – $kernel becomes the one for --tdx: the newest built here, else one that ../shared/seam-lab has ready,
# if any.
seam_kernel() {
    kernel=$(images | tail -n 1)
    kernel=${kernel:+$kernel/bzImage}
    [ -z "$kernel" ] || return 0
    kernel=$(compgen -G "$root/../shared/seam-lab/vmlinuz-${release:-*}*-seamlab" | sort -V | tail -n 1 || true)
}

# find_kernel – $kernel becomes the kernel to boot.
find_kernel() {
    if [ $tdx = yes ]; then
        seam_kernel
    else
        kernel=$(images | tail -n 1)
        kernel=${kernel:+$kernel/bzImage}
    fi
    [ -n "$kernel" ] ||
        fail "no kernel${release:+ $release} is built; scripts/kernel-lab --build-only does it (5 to 20 minutes)"
}

# find_server – $server becomes the program that answers SEAMCALLs: the one that --module-server names, else the one
# built last.
find_server() {
    [ -n "$server" ] || server=$(ls -t .build/{release,debug}/tdx-module-server 2>/dev/null | head -n 1 || true)
    [ -n "$server" ] || fail "no tdx-module-server is built; swift build --product tdx-module-server does it"
    [ -x "$server" ] || fail "$server is no program"
}

# start_server – the software TDX module, whose process sees the machine's memory in the files of $backing; $module is
# its number. It is up before the machine is: the kernel asks for the module while it boots.
start_server() {
    mkfifo "$scratch/bell"
    local file arguments=(--bell "$scratch/bell" --low-memory $low --ready "$scratch/ready")
    for file in "${backing[@]}"; do arguments+=(--memory "$file"); done
    "$server" "${arguments[@]}" "${server_options[@]}" </dev/null >/dev/null 2>"$scratch/server" &
    module=$!
    for _ in {1..600}; do
        [ ! -s "$scratch/ready" ] || return 0
        kill -0 "$module" 2>/dev/null || break
        sleep 0.05
    done
    cat "$scratch/server" >&2
    fail "tdx-module-server does not start"
}

# memory_of_machine – adds memory, NUMA nodes and, with --tdx, the files behind them to $machine; $backing are these
# files.
memory_of_machine() {
    local sizes=("$memory") number name kind=memory-backend-ram
    [ $nodes = 1 ] || sizes=($((memory / 2)) $((memory - memory / 2)))
    for number in "${!sizes[@]}"; do
        name=memory$number
        local object="$kind,id=$name,size=${sizes[$number]}M"
        if [ $tdx = yes ]; then
            local file=$shared_memory/$name
            truncate -s "${sizes[$number]}M" "$file" || fail "no memory of ${sizes[$number]} MiB in /dev/shm"
            backing+=("$file")
            object="memory-backend-file,id=$name,size=${sizes[$number]}M,mem-path=$file,share=on"
        fi
        machine+=(-object "$object")
    done
    if [ $nodes = 2 ]; then
        machine+=(-numa node,nodeid=0,cpus=0,memdev=memory0
            -numa "node,nodeid=1,cpus=1$([ "$processors" = 2 ] || echo "-$((processors - 1))"),memdev=memory1")
    else
        machine+=(-machine memory-backend=memory0)
    fi
}

# boot COMMAND... – runs COMMAND on the newest kernel built and ends with its status.
boot() {
    local kernel
    find_kernel
    command -v qemu-system-x86_64 >/dev/null || fail "no qemu-system-x86_64 (apt-get install qemu-system-x86)"
    [ $nodes -le "$processors" ] || fail "two NUMA nodes take two processors at least"
    scratch=$(mktemp -d)
    initial_files "$@"

    # Where the memory's upper part begins at 4 GiB, the rest lies below this many MiB.
    local low=2048 backing=() machine=(-machine "q35,accel=tcg,max-ram-below-4g=2G" -smp "$processors" -m "${memory}M")
    # no_timer_check: QEMU on a busy host delivers the check's timer interrupts too late, and the kernel would panic.
    local append="console=ttyS0 panic=-1 quiet no_timer_check" processor=max,+svm
    if [ $tdx = yes ]; then
        find_server
        shared_memory=$(mktemp -d /dev/shm/kernel-lab.XXXXXX)
        # An Intel server processor in name; what it lacks, seamlab.c adds. 52 bits of address, as user space sees them.
        processor=max,vendor=GenuineIntel,family=6,model=173,stepping=1,phys-bits=52
        append+=" seamlab=mailbox kvm_intel.tdx=1${kernel_arguments:+ $kernel_arguments}"
    fi
    memory_of_machine
    machine+=(-cpu "$processor" -nodefaults -display none -no-reboot -kernel "$kernel" -initrd "$scratch/initramfs"
        -append "$append" -chardev "file,id=console,path=$scratch/console" -serial chardev:console
        -virtfs "local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap"
        -device virtio-serial-pci)
    if [ $tdx = yes ]; then
        start_server
        machine+=(-chardev "file,id=bell,path=$scratch/bell" -device isa-debugcon,iobase=0xe9,chardev=bell)
    fi
    local port name
    for port in 1:output 2:error 3:status; do
        name=${port#*:}
        machine+=(-chardev "file,id=$name,path=$scratch/$name" -device "virtserialport,chardev=$name,nr=${port%:*}")
    done

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
    # A machine whose module has gone waits for an answer for ever.
    if [ -n "$module" ]; then
        local first=
        wait -n -p first "$job" "$module" || status=$?
        if [ "$first" = "$module" ]; then
            server_status=$status module= status=0
            # The module ends with the machine, whose end may be under way.
            for _ in {1..100}; do kill -0 "$job" 2>/dev/null || break; sleep 0.05; done
            kill -KILL -- "-$job" 2>/dev/null || true
            { wait "$job"; } 2>/dev/null || status=$?
        fi
    else
        wait "$job" || status=$?
    fi
    job=
    # Where QEMU never opened the pipes, the readers still wait for that.
    : 3<>"$scratch/output" 4<>"$scratch/error"
    wait "${readers[@]}" || true
    if [ -n "$module" ]; then
        server_status=0
        # Where QEMU never opened the bell, the module still waits for that.
        : 3<>"$scratch/bell"
        wait "$module" || server_status=$?
        module=
    fi
    if [ -n "$tdx_log" ]; then
        { tr -d '\r' <"$scratch/console"; cat "$scratch/server"; } >"$tdx_log" || fail "$tdx_log cannot be written"
    fi
    # 137 is also a machine that was ended because its module had failed.
    if [ $status = 124 ] || [ $status = 137 -a "${server_status:-0}" = 0 ]; then
        tell "no end in $seconds s"
        exit 124
    fi
    local result=
    [ ! -s "$scratch/status" ] || read -r result <"$scratch/status"
    if [ $status -ne 0 ] || [[ ! $result =~ ^[0-9]+$ ]]; then
        cat "$scratch/qemu" >&2
        [ ! -s "$scratch/console" ] || tail -n 20 "$scratch/console" | tr -d '\r' >&2
        [ ! -s "$scratch/server" ] || tail -n 20 "$scratch/server" >&2
        fail "the machine ended without the command's status (QEMU's is $status)"
    fi
    case ${server_status:-0} in
    0) ;;
    3) cat "$scratch/server" >&2; fail "the kernel broke the module's ownership of pages, as it says above" ;;
    *) cat "$scratch/server" >&2; fail "tdx-module-server ended with status $server_status" ;;
    esac
    exit "$result"
}

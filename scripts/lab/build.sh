# How scripts/kernel-lab comes by its kernel; sourced by it, not run. Uses its $state, $fragment, $seam, $release and
# $key.

lab_packages=(gcc libc6-dev make flex bison bc libelf-dev libssl-dev xz-utils binutils)
# What a build takes on the disk: the package, the unpacked source and the objects come to 3 GB.
lab_room=$((4 << 20)) # KiB
oldest=6.18           # the first kernel whose guest_memfd flags the tests know

tell() { printf 'kernel-lab: %s\n' "$*" >&2; }

# images – the kernels built from this fragment and seamlab.c, oldest first; with --kernel those of that release.
images() {
    local image
    for image in "$state"/images/"${release:+$release[.~]}"*-"$key"; do
        if [ -e "$image/bzImage" ]; then printf '%s\n' "$image"; fi
    done | sort -V
}

# watched LABEL MEASURE COMMAND... – runs COMMAND with its output in $log and says on standard error how it goes on:
# every second in one line on a terminal, every 20 s in a line of its own elsewhere. MEASURE, a function, prints how
# far it is.
watched() {
    local label=$1 measure=$2 begin=$SECONDS said=0 status=0
    shift 2
    # A process group of its own: what is interrupted is ended with all that it started.
    set -m
    "$@" >>"$log" 2>&1 </dev/null 9>&- &
    job=$!
    set +m
    tell "$label …"
    while kill -0 "$job" 2>/dev/null; do
        sleep 1
        local passed=$((SECONDS - begin))
        if [ -t 2 ]; then
            printf '\r\e[Kkernel-lab: %s, %d s' "$($measure)" "$passed" >&2
        elif [ $((passed - said)) -ge 20 ]; then
            tell "  $($measure), $passed s"
            said=$passed
        fi
    done
    wait "$job" || status=$?
    job=
    [ ! -t 2 ] || printf '\r\e[K' >&2
    [ $status -eq 0 ] || { tail -n 20 "$log" >&2; fail "$label failed (status $status); the whole output is in $log"; }
}

mebibytes() { printf '%d MiB' $(($(du -sk "$@" 2>/dev/null | awk '{ sum += $1 } END { print sum + 0 }') / 1024)); }
index_size() { mebibytes "$state/apt/state/lists"; }
package_size() { printf '%s of %d MiB' "$(mebibytes "$work/package" "$state/apt/cache")" $((size >> 20)); }
source_size() { mebibytes "$work/source"; }
objects() { printf '%d objects' "$(grep -c '^ *\(CC\|AS\|LD\|AR\) ' "$log" || true)"; }

# apt with an index, a cache and sources of its own: nothing of this machine's apt is changed. Its proxy settings
# hold; what it says of dates and signatures does not.
lab_apt() {
    local program=$1
    shift
    "$program" --config-file="$state/apt/apt.conf" "$@"
}

# The suite's index, checked by apt against Debian's keys, becomes current; $package, $version and $size say what it
# has.
find_package() {
    command -v apt-get >/dev/null || fail "no apt-get: the kernel's source comes as a Debian package"
    local keys=/usr/share/keyrings/debian-archive-keyring.gpg
    [ -r "$keys" ] || fail "no $keys (apt-get install debian-archive-keyring): the package could not be verified"
    # Without --mirror, the one that this machine's own apt uses for its release.
    if [ -z "$mirror" ]; then
        mirror=$(apt-get indextargets --format '$(REPO_URI) $(COMPONENT) $(RELEASE) $(ORIGIN)' 'Created-By: Packages' |
            awk '$2 == "main" && $3 !~ /-/ && $4 == "Debian" { print $1; exit }')
        [ -n "$mirror" ] || fail "this machine's apt knows no Debian mirror; name one with --mirror URL"
    fi
    mkdir -p "$state"/apt/{state/lists/partial,cache/archives/partial}
    : >"$state/apt/status"
    printf 'deb [arch=amd64 signed-by=%s] %s %s main\n' "$keys" "$mirror" "$suite" >"$state/apt/sources.list"
    local dated=true
    [ $frozen = no ] || dated=false
    cat >"$state/apt/apt.conf" <<SETTINGS
Dir::Etc::SourceList "$state/apt/sources.list";
Dir::Etc::SourceParts "/dev/null";
Dir::Etc::Preferences "/dev/null";
Dir::Etc::PreferencesParts "/dev/null";
Dir::State "$state/apt/state";
Dir::State::Status "$state/apt/status";
Dir::Cache "$state/apt/cache";
Acquire::Languages "none";
Acquire::Check-Valid-Until "$dated";
Acquire::Check-Date "$dated";
APT::Get::AllowUnauthenticated "false";
Acquire::AllowInsecureRepositories "false";
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
SETTINGS
    : >"$log"
    index() {
        lab_apt apt-get --quiet=2 --error-on=any update && return
        grep -q 'is expired' "$log" && echo "kernel-lab: the index is signed but no longer valid: the mirror is behind, or was" \
            "frozen on purpose; --frozen-mirror takes it as it is"
        return 1
    }
    watched "Fetching the index of Debian $suite from $mirror" index_size index
    package=$(lab_apt apt-cache pkgnames linux-source- | grep -E '^linux-source-[0-9]+\.[0-9]+$' |
        { if [ -n "$release" ]; then grep -xF "linux-source-$release"; else cat; fi; } | sort -V | tail -n 1)
    [ -n "$package" ] || fail "Debian $suite has no linux-source-${release:-X.Y}"
    [ "$(printf '%s\n' "$oldest" "${package#linux-source-}" | sort -V | head -n 1)" = "$oldest" ] ||
        fail "the newest kernel source of Debian $suite is $package; $oldest or newer is needed"
    read -r version size < <(lab_apt apt-cache show "$package" |
        awk '$1 == "Version:" { v = $2 } $1 == "Size:" { print v, $2; exit }')
}

unpack_source() {
    mkdir "$work/source"
    dpkg-deb --fsys-tarfile "$work/package/"*.deb | tar -xO "./usr/src/$package.tar.xz" |
        tar -xJ --strip-components=1 -C "$work/source" || return
    # The one file of the lab's own, and the lines that link it and let it include KVM's headers. The Makefile's last
    # line may lack its end.
    cp "$seam" "$work/source/arch/x86/virt/seamlab.c" &&
        printf '\nobj-y += seamlab.o\nCFLAGS_seamlab.o := -I $(srctree)/arch/x86/kvm\n' >>"$work/source/arch/x86/virt/Makefile"
}

# The fragment on top of the smallest configuration. Each of its lines must have come through.
configure_kernel() {
    make tinyconfig && scripts/kconfig/merge_config.sh -m .config "$fragment" && make olddefconfig || return
    local line missing=0
    while IFS= read -r line; do
        grep -qxF -e "$line" .config || { echo "kernel-lab: $package does not take $line"; missing=1; }
    done < <(grep '^CONFIG' "$fragment")
    return $missing
}

# build – makes the newest kernel of the suite, unless it is there. Who comes second waits and finds it made.
build() {
    [ "$(uname -m)" = x86_64 ] || fail "only x86_64 is known to work, not $(uname -m)"
    mkdir -p "$state/images"
    exec 9>"$state/lock"
    if ! flock -n 9; then
        tell "Another build is under way; waiting for it …"
        flock 9
    fi
    if [ $update = no ] && [ -n "$(images)" ]; then return; fi
    # Left by a build that was killed: nobody else is here now.
    rm -rf "$state"/build.*
    need_packages "${lab_packages[@]}" >&2
    log=$state/build.log
    find_package
    local image=$state/images/$version-$key
    if [ -e "$image/bzImage" ]; then
        tell "$package $version is the newest, and built"
        return
    fi
    local room
    room=$(df --output=avail -k "$state" | tail -n 1)
    [ "$room" -ge $lab_room ] || fail "the build takes $((lab_room >> 20)) GiB in $state, where $((room >> 20)) GiB are free"
    work=$(mktemp -d "$state/build.XXXXXX")
    mkdir "$work/package" "$work/image"
    # Compares size and SHA-256 with the index.
    fetch() { cd "$work/package" && lab_apt apt-get --quiet=2 download "$package=$version"; }
    watched "Fetching $package $version" package_size fetch
    watched "Unpacking" source_size unpack_source
    rm -rf "$work/package"
    cd "$work/source"
    watched "Configuring" objects configure_kernel
    watched "Building with $jobs processors" objects nice -n 10 make -j"$jobs" bzImage
    cp arch/x86/boot/bzImage .config "$work/image/"
    printf '%s\n' "package: $package $version" "suite: $suite" "mirror: $mirror" "fragment: $key" \
        "compiler: $(gcc --version | head -n 1)" "sha256: $(sha256sum <"$work/image/bzImage" | cut -d ' ' -f 1)" \
        >"$work/image/origin"
    cd "$root"
    mv -T "$work/image" "$image"
    rm -rf "$work"
    work=
    tell "Built $image/bzImage ($(du -k "$image/bzImage" | cut -f 1) KiB)"
    exec 9>&-
}

# Shared by the scripts of this folder; sourced, not run.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
cd "$root"

say() { printf '%s\n' "$*"; }
fail() { printf '%s: %s\n' "$(basename "$0")" "$*" >&2; exit 1; }

# need_packages NAME... – installs Debian packages that are missing; as root directly, else by sudo.
need_packages() {
    local missing=() package
    for package in "$@"; do
        dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
    done
    [ ${#missing[@]} -eq 0 ] && return 0
    say "Installing Debian packages: ${missing[*]}"
    local as_root=()
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null || fail "packages are missing and this is neither root nor is sudo there: ${missing[*]}"
        as_root=(sudo)
    fi
    local log
    log=$(mktemp)
    if ! { "${as_root[@]}" apt-get update -qq &&
        "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"; } >"$log" 2>&1
    then
        tail -n 20 "$log" >&2
        rm -f "$log"
        fail "apt-get could not install ${missing[*]}"
    fi
    rm -f "$log"
}

need_swift() {
    command -v swift >/dev/null || fail "no swift on PATH; install Swift 6.3 from swift.org first"
    local version
    version=$(swift --version 2>/dev/null | sed -n 's/.*Swift version \([0-9]*\.[0-9]*\).*/\1/p' | head -n 1)
    case $version in
    6.[3-9] | [7-9].* | 6.[1-9][0-9]) ;;
    *) fail "Swift $version is too old; 6.3 or newer is needed" ;;
    esac
}

# build_release PROGRAM... – optimised and with Swift's own libraries inside, in one call of swift build; $bin is where
# they are. Quiet unless it fails.
build_release() {
    local log
    log=$(mktemp)
    TDXD_ROOMS=$(IFS=,; printf '%s' "$*") swift build -c release --static-swift-stdlib >"$log" 2>&1 ||
        { tail -n 40 "$log" >&2; rm -f "$log"; fail "the build failed"; }
    rm -f "$log"
    bin=$(swift build -c release --static-swift-stdlib --show-bin-path)
}

# What every build needs.
build_packages=(libgcrypt20-dev libseccomp-dev libsystemd-dev pkg-config)

# What scripts/test-tsan runs: the rooms in which threads meet, the tests of those rooms, and the names that it leaves
# out.
sanitized_rooms=(TDXModule TDXEmulator LinuxSystem Varlink TDHolder ConfidentialMemory)
sanitized_tests=('TDXModuleTests\.' 'TDXEmulatorTests\.' 'LinuxSystemTests\.' 'VarlinkTests\.' 'TDHolderTests\.'
    'ConfidentialMemoryTests\.(Conversion|InPlace|Teardown|EmulatedGuest|GuestExit|FaultInjection)')
unsanitized_tests=(OVMF LastWillTests)

# find_lab – $lab becomes the program that boots a kernel with private memory: the one that TDXD_KERNEL_LAB names, else
# ../shared/kernel-lab/run, else scripts/kernel-lab, whose kernel is never built unless asked for. False, with $without
# as the reason, where there is none.
find_lab() {
    lab=${TDXD_KERNEL_LAB:-../shared/kernel-lab/run} without=
    [ -n "${TDXD_KERNEL_LAB:-}" ] || [ -x "$lab" ] || lab=scripts/kernel-lab
    if [ ! -x "$lab" ]; then
        without="$lab is no program; TDXD_KERNEL_LAB must name one that boots a kernel with private memory"
    elif [ "$lab" -ef scripts/kernel-lab ] && ! "$lab" --built >/dev/null; then
        without="no kernel with private memory is built; scripts/kernel-lab --build-only does it, once, in 5 to 20 minutes"
    fi
    [ -z "$without" ]
}

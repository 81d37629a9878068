#!/bin/sh
# Makes sure that s3gpu can be built and run on this machine. Safe to run again; quick when there is nothing to do.
#
#   scripts/setup.sh                   checks cargo and a C compiler; on Linux without a usable Vulkan driver it
#                                      installs Mesa's software driver (lavapipe) with the system's package manager
#   scripts/setup.sh --second-driver   for the tests: also installs Chromium where the system offers it as a plain
#                                      package, for SwiftShader, a second software Vulkan driver; does without if it
#                                      cannot. SWIFTSHADER_ICD names the driver's manifest if it is somewhere else.
set -eu
PATH=$PATH:/usr/sbin:/sbin # ldconfig is not in every user's PATH
cd "$(dirname "$0")/.."

swiftshader_icd=${SWIFTSHADER_ICD:-/usr/lib/chromium/vk_swiftshader_icd.json}

say() { printf 'setup: %s\n' "$*"; }
fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }
has() { command -v "$1" >/dev/null 2>&1; }
any_usable() { for path in "$@"; do if [ -r "$path" ] && [ -w "$path" ]; then return 0; fi; done; return 1; }

check_cargo() {
    if ! has cargo; then
        [ ! -x "${HOME:-}/.cargo/bin/cargo" ] || fail "cargo is installed but not in PATH: run  . ~/.cargo/env  and try again"
        fail "cargo is missing: install Rust from https://rustup.rs (curl -sSf https://sh.rustup.rs | sh) and try again"
    fi
    need=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
    found=$(cargo --version) || fail "cargo does not run: with rustup, choose a toolchain by  rustup default stable  and try again"
    found=$(printf '%s\n' "$found" | cut -d ' ' -f 2)
    oldest=$(printf '%s\n' "$need" "$found" | sort -V | head -n 1)
    [ "$oldest" = "$need" ] || fail "cargo $found is too old, s3gpu needs Rust $need: run  rustup update  (or install Rust from https://rustup.rs)"
}

check_compiler() {
    if has cc || has gcc || has clang; then return; fi
    case $(uname -s) in
        Darwin) how="xcode-select --install" ;;
        *)
            if has apt-get; then how="apt-get install build-essential"
            elif has dnf; then how="dnf install gcc"
            elif has pacman; then how="pacman -S gcc"
            else how="your system's package manager"; fi ;;
    esac
    fail "no C compiler found (Rust needs it to link): install one with  $how  and try again"
}

# The driver manifests that the Vulkan loader reads here, one path a line.
vulkan_manifests() (
    IFS=:
    forced=${VK_DRIVER_FILES:-${VK_ICD_FILENAMES:-}}
    for path in $forced; do
        if [ -d "$path" ]; then ls "$path"/*.json 2>/dev/null; else printf '%s\n' "$path"; fi
    done
    [ -z "$forced" ] || exit 0
    home=${HOME:-/nonexistent}
    for root in "${XDG_CONFIG_HOME:-$home/.config}" ${XDG_CONFIG_DIRS:-/etc/xdg} /usr/local/etc /etc \
        "${XDG_DATA_HOME:-$home/.local/share}" ${XDG_DATA_DIRS:-/usr/local/share:/usr/share}; do
        ls "$root"/vulkan/icd.d/*.json 2>/dev/null || true
    done
)

# Mesa installs manifests for GPUs of every make: one counts only if its library is there and so is its hardware.
is_usable() {
    library=$(sed -n 's/.*"library_path"[^"]*"\([^"]*\)".*/\1/p' "$1" 2>/dev/null) || return 1
    case $library in
        '') return 1 ;;
        /*) [ -e "$library" ] || return 1 ;;
        */*) [ -e "$(dirname "$1")/$library" ] || return 1 ;;
        *) ldconfig -p 2>/dev/null | grep -qF "$library" || return 1 ;;
    esac
    case ${1##*/} in
        *i[36]86*) [ "$(getconf LONG_BIT)" = 32 ] ;;
        lvp_* | vk_swiftshader*) true ;; # software: needs no hardware
        nvidia_*) any_usable /dev/nvidia[0-9]* ;;
        dzn_*) any_usable /dev/dxg ;; # Windows' GPU, seen from WSL
        *) any_usable /dev/dri/renderD* ;;
    esac
}

# Prints the first manifest that works here; fails if there is none, or no loader.
usable_driver() {
    ldconfig -p 2>/dev/null | grep -qF libvulkan.so.1 || return 1
    vulkan_manifests | { while IFS= read -r manifest; do if is_usable "$manifest"; then printf '%s\n' "$manifest"; exit 0; fi; done; exit 1; }
}

# apt_install PACKAGE...: the command. A list that cannot be refreshed does not matter if the packages are known.
apt_install() {
    echo "apt-get update -q; DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $*"
}

# as_root COMMAND: runs it as root; fails if it does, or if there is no way to become root.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then sh -c "$1"; elif has sudo; then sudo sh -c "$1"; else return 1; fi
}

ensure_vulkan() {
    if driver=$(usable_driver); then
        say "Vulkan driver: $driver"
        return
    fi
    if [ -n "${VK_DRIVER_FILES:-${VK_ICD_FILENAMES:-}}" ]; then
        fail "no usable Vulkan driver in VK_DRIVER_FILES or VK_ICD_FILENAMES (${VK_DRIVER_FILES:-$VK_ICD_FILENAMES}): correct or unset them"
    fi
    if has apt-get; then packages="mesa-vulkan-drivers libvulkan1" with=apt-get command=$(apt_install mesa-vulkan-drivers libvulkan1)
    elif has dnf; then packages="mesa-vulkan-drivers vulkan-loader" with=dnf command="dnf install -y $packages"
    elif has pacman; then packages="vulkan-swrast vulkan-icd-loader" with=pacman command="pacman -S --needed --noconfirm $packages"
    else fail "no GPU and no software Vulkan driver found, and no apt-get, dnf or pacman: install your GPU's Vulkan driver, or Mesa's lavapipe, and the Vulkan loader (libvulkan.so.1)"
    fi
    say "no usable GPU and no software Vulkan driver found: installing Mesa's lavapipe ($packages) with $with"
    as_root "$command" || fail "could not install it. Run this as root, then try again:
  $command"
    driver=$(usable_driver) || fail "$packages are installed, yet no usable Vulkan driver is there: install your GPU's driver, then try again"
    say "Vulkan driver: $driver"
}

ensure_second_driver() {
    if [ ! -f "$swiftshader_icd" ]; then
        # shellcheck source=/dev/null
        case "$(. /etc/os-release 2>/dev/null && echo "${ID:-} ${ID_LIKE:-}")" in
            *ubuntu*) reason="Ubuntu's chromium is a snap, which shares no driver; SWIFTSHADER_ICD can name another one" ;;
            *debian*)
                say "installing Chromium with apt-get, for the tests only: it brings SwiftShader, a second Vulkan driver, and Tint"
                command=$(apt_install chromium)
                as_root "$command" || say "could not install it; as root that is:  $command"
                reason="Chromium could not be installed" ;;
            *) reason="no package is known for this system; SWIFTSHADER_ICD can name one" ;;
        esac
    fi
    if [ -f "$swiftshader_icd" ]; then
        say "second Vulkan driver: $swiftshader_icd"
    else
        say "no second Vulkan driver ($swiftshader_icd): $reason. The tests run without it."
    fi
}

case ${1-} in
    '' | --second-driver) ;;
    *) fail "unknown option $1 (there is only --second-driver)" ;;
esac
check_cargo
case $(uname -s) in
    Linux)
        check_compiler
        ensure_vulkan
        if [ "${1-}" = --second-driver ]; then ensure_second_driver; fi ;;
    Darwin)
        check_compiler
        say "macOS: Metal is part of the system, nothing to install" ;;
    MINGW* | MSYS* | CYGWIN*) say "Windows: Direct3D 12 is part of the system, nothing to install" ;;
    *) say "$(uname -s): no set-up is known for this system; a Vulkan driver has to be there" ;;
esac

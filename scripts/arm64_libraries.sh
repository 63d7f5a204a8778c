#!/bin/sh
# scripts/arm64_libraries.sh DIR: the libraries that steer.c links with, for arm64, unpacked under DIR/usr from Debian's (or Ubuntu's)
# packages. Nothing is installed, so no root is needed and nothing on this machine changes: apt works on lists of its own. Does nothing
# where they are there already. What `make check-ports` compiles for ARM with.
set -eu
dir=${1:?usage: scripts/arm64_libraries.sh DIR}
[ ! -f "$dir/complete" ] || exit 0
wrong() { printf 'error: fetching the libraries for arm64: %s\n  -> %s\n' "$1" "$2" >&2; exit 1; }
command -v apt-get >/dev/null || wrong 'apt-get was not found' 'install cJSON, GMP, PCRE2, utf8proc and libyaml for arm64, and set ARM64_CPPFLAGS and ARM64_LDFLAGS to where they are'
rm -rf "$dir"
mkdir -p "$dir/apt/lists/partial" "$dir/apt/cache/archives/partial" "$dir/packages"
dir=$(cd "$dir" && pwd)
apt="-qq -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o Dir::State::Lists=$dir/apt/lists -o Dir::Cache=$dir/apt/cache -o Dir::State::status=/dev/null -o APT::Sandbox::User="
# shellcheck disable=SC2086 # words
apt-get $apt update || wrong 'the lists of packages could not be read (see above)' 'check the network and /etc/apt/sources.list'
# shellcheck disable=SC2086
for package in libcjson-dev libgmp-dev libpcre2-dev libutf8proc-dev libyaml-dev; do
    echo $package
    apt-cache $apt depends $package | sed -n 's/.*Depends: *//p' | grep -E '^lib(cjson|gmp|pcre2-8|utf8proc|yaml)' || true
done | sort -u > "$dir/names"
# shellcheck disable=SC2046,SC2086
(cd "$dir/packages" && apt-get $apt download $(cat "$dir/names")) || wrong 'a package could not be fetched (see above)' 'check the network'
for package in "$dir"/packages/*.deb; do dpkg-deb -x "$package" "$dir"; done
rm -rf "$dir/apt" "$dir/packages"
touch "$dir/complete"
echo "unpacked for arm64: $(paste -sd ' ' "$dir/names")"

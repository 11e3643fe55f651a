#!/bin/sh
# Installs a system FFmpeg with the machine's own package manager. SparkTrainer does not need it:
# an FFmpeg comes with the Python packages. A system FFmpeg is preferred when there is one.
set -eu

say() { printf '%s\n' "install_ffmpeg: $*" >&2; }
run() { say "$*"; "$@"; }

if command -v ffmpeg >/dev/null; then
    say "already here: $(ffmpeg -version | head -n 1)"
    exit 0
fi
root=""
if [ "$(id -u)" -ne 0 ]; then root="sudo -n"; fi # -n: fail instead of asking for a password

if command -v apt-get >/dev/null; then
    run $root env DEBIAN_FRONTEND=noninteractive apt-get update
    run $root env DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends ffmpeg
elif command -v dnf >/dev/null; then
    # Fedora's own build, with fewer codecs; the full one is in RPM Fusion.
    run $root dnf install --assumeyes ffmpeg-free
elif command -v brew >/dev/null; then
    run brew install ffmpeg
else
    say "no apt-get, dnf or brew here; install FFmpeg by hand, or use the one that comes along"
    exit 1
fi
say "done: $(ffmpeg -version | head -n 1)"

#!/bin/sh
# Builds the express lane and puts it into an environment: build.sh PYTHON. Everything works without it, more slowly, so what is in the way is
# told in a line. Ends with 3 where it cannot be built here (no toolchain, no crates), and with 1 where that fails.
set -u
python=$1
without="everything works without it, more slowly"
oldest=1.85
cd "$(dirname "$0")" || exit 1
found=$(cargo --version 2> /dev/null | cut -d ' ' -f 2)
if [ "$(printf '%s\n%s\n' "$oldest" "${found:-0}" | sort -V | head -n 1)" != "$oldest" ]; then
    echo "lane: no cargo $oldest or newer is here (${found:-none is}), so the express lane is not built; $without" >&2
    exit 3
fi
target=${CARGO_TARGET_DIR:-target}
log=$target/build.log
mkdir -p "$target"
if ! cargo fetch --locked --quiet --target "$(rustc -vV | sed -n "s/^host: //p")" > "$log" 2>&1; then
    echo "lane: what the express lane is made of cannot be fetched, so it is not built; $without. \`make lane\` tries again ($(tail -n 1 "$log"))" >&2
    exit 3
fi
[ -e "$target/release/libmesh_lane.so" ] || echo "lane: building the express lane (a few minutes the first time)"
if ! nice -n 19 cargo build --release --locked --quiet > "$log" 2>&1; then
    cat "$log" >&2
    echo "lane: the express lane could not be built, for the reasons above; $without" >&2
    exit 1
fi
folder=$("$python" -c "import sysconfig; print(sysconfig.get_path('platlib'))") || exit 1
# In one step: a router may be importing it.
cp "$target/release/libmesh_lane.so" "$folder/.mesh_lane.new" && mv "$folder/.mesh_lane.new" "$folder/mesh_lane.abi3.so"

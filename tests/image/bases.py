"""Stand-ins for the images that the Dockerfile starts from, for machines that reach no image registry.

They are made of Debian's packages, of this machine's Rust toolchain and of the
crates that it has compiled, under the names that the Dockerfile gives. Like the
real ones, the last one has no shell.
"""

import os
import shutil
import subprocess
from pathlib import Path

RELEASE = "bookworm"
CERTIFICATES = "etc/ssl/certs/ca-certificates.crt"
# The same in the image, since Cargo tells what it has compiled by where the sources lie.
CARGO_HOME = Path(os.environ.get("CARGO_HOME", Path.home() / ".cargo"))
# What of distroless' cc image a binary may link against.
LIBRARIES = ["libc6", "libgcc-s1", "libgomp1", "libssl3", "libstdc++6"]


def names(dockerfile):
    """The image that the build starts from, and the one that what is shipped starts from."""
    lines = [line.split() for line in dockerfile.read_text().splitlines()]
    stages = [words for words in lines if words and words[0] == "FROM"]
    named = {words[3] for words in stages if len(words) > 3}
    build, final = dict.fromkeys(words[1] for words in stages if words[1] not in named)
    return build, final


def make_build_base(daemon, name, folder, built):
    root = folder / "build-base"
    # Of what the real one has: what Cargo needs.
    packages = "ca-certificates,gcc,libc6-dev"
    quietly(["debootstrap", "--variant=minbase", f"--include={packages}", RELEASE, root])
    add_toolchain(root)
    add_dependencies(root, built)
    # A machine behind a proxy trusts certificates that Debian does not ship.
    shutil.copy(f"/{CERTIFICATES}", root / CERTIFICATES)
    load(daemon, name, root, f"ENV PATH=/usr/local/rust/bin:/usr/bin:/bin CARGO_HOME={CARGO_HOME}")


def make_final_base(daemon, name, folder):
    root, packages = folder / "final-base", folder / "packages"
    for made in [root / "tmp", root / "etc/ssl/certs", packages]:
        made.mkdir(parents=True)
    (root / "tmp").chmod(0o1777)
    shutil.copy(f"/{CERTIFICATES}", root / CERTIFICATES)
    (root / "etc/passwd").write_text("nonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin\n")
    quietly(["apt-get", "download", *LIBRARIES], cwd=packages)
    for package in packages.iterdir():
        quietly(["dpkg-deb", "--extract", package, root])
    load(daemon, name, root, "USER 65532", "WORKDIR /home/nonroot")


def add_toolchain(root):
    sysroot = subprocess.check_output(["rustc", "--print", "sysroot"], text=True).strip()
    for part in ["bin", "lib"]:
        shutil.copytree(Path(sysroot, part), root / "usr/local/rust" / part, symlinks=True)
    home = root / CARGO_HOME.relative_to("/")
    home.mkdir(parents=True)
    # Where the machine names a mirror of crates.io, the build needs it too.
    settings = CARGO_HOME / "config.toml"
    if settings.exists():
        shutil.copy(settings, home)


def add_dependencies(root, built):
    """What the same toolchain has compiled here of the crates that the server is built from, where the Dockerfile builds.
    Cargo takes over what it would compile likewise, which saves most of the build's time; the server itself is left out."""
    for part in [".fingerprint", "build", "deps"]:
        own = shutil.ignore_patterns("onnxd-*", "libonnxd-*")
        shutil.copytree(built / part, root / "build/target/release" / part, ignore=own)


def proxy_arguments():
    """The machine's proxy, if it has one, as arguments that Docker knows without an ARG."""
    proxies = ["http_proxy", "https_proxy", "no_proxy"]
    known = [name for proxy in proxies for name in (proxy, proxy.upper()) if name in os.environ]
    return [argument for name in known for argument in ("--build-arg", name)]


def load(daemon, name, root, *changes):
    changes = [argument for change in changes for argument in ("--change", change)]
    with subprocess.Popen(["tar", "-C", root, "-c", "."], stdout=subprocess.PIPE) as tar:
        daemon.docker("import", *changes, "-", name, stdin=tar.stdout)
    if tar.returncode != 0:
        raise RuntimeError(f"tar of {root} failed")
    shutil.rmtree(root)


def quietly(command, **options):
    ran = subprocess.run(command, capture_output=True, text=True, **options)
    if ran.returncode != 0:
        raise RuntimeError(f"{command[0]} failed:\n{(ran.stdout + ran.stderr)[-2000:]}")

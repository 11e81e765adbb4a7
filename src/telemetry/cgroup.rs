//! Reads the limits and the use of the control group that this process runs in, version 1 or 2.
//!
//! Files and formats are those of the Linux kernel's cgroup-v1 and cgroup-v2 documentation. A limit may be set
//! on any group above ours as well, so limits are the least on the way up to the root that we can see.

use std::path::{Path, PathBuf};

/// Where the kernel shows control groups by convention.
const MOUNT: &str = "/sys/fs/cgroup";
/// Version 1 writes "no limit" as the largest page-aligned number; anything near it means the same.
const V1_UNLIMITED: u64 = 1 << 62;

/// The control group of this process.
#[derive(Debug, Clone)]
pub struct Cgroup {
    version: Version,
    /// The mounts' roots; limits are looked for from the group's folder up to here.
    cpu: Folder,
    memory: Folder,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    V1,
    V2,
}

#[derive(Debug, Clone)]
struct Folder {
    root: PathBuf,
    group: PathBuf,
}

/// How often and how long the kernel held the group back because its CPU quota was used up.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Throttling {
    pub periods: u64,
    pub seconds: f64,
}

impl Cgroup {
    /// The group of this process, where there is one.
    pub fn of_process() -> Option<Cgroup> {
        Self::read(
            Path::new(MOUNT),
            &std::fs::read_to_string("/proc/self/cgroup").ok()?,
        )
    }

    /// The group that `membership`, the text of `/proc/self/cgroup`, names under `mount`.
    pub fn read(mount: &Path, membership: &str) -> Option<Cgroup> {
        let path_of = |wanted: &str| {
            membership.lines().find_map(|line| {
                let (_, rest) = line.split_once(':')?;
                let (controllers, path) = rest.split_once(':')?;
                controllers
                    .split(',')
                    .any(|controller| controller == wanted)
                    .then_some(path)
            })
        };
        if mount.join("cgroup.controllers").is_file() {
            let folder = Folder::new(mount.to_owned(), path_of("")?);
            return Some(Cgroup {
                version: Version::V2,
                cpu: folder.clone(),
                memory: folder,
            });
        }
        let mounted = |names: [&str; 2]| {
            names
                .map(|name| mount.join(name))
                .into_iter()
                .find(|root| root.is_dir())
        };
        Some(Cgroup {
            version: Version::V1,
            cpu: Folder::new(mounted(["cpu", "cpu,cpuacct"])?, path_of("cpu")?),
            memory: Folder::new(mounted(["memory", "memory"])?, path_of("memory")?),
        })
    }

    /// How many CPUs' worth of time the group may use; `None` without a quota.
    pub fn cpu_quota_cores(&self) -> Option<f64> {
        least(self.cpu.upwards().filter_map(|folder| match self.version {
            Version::V2 => {
                let text = read(&folder, "cpu.max")?;
                let (quota, period) = text.split_once(' ')?;
                Some(quota.parse::<f64>().ok()? / period.parse::<f64>().ok()?)
            }
            Version::V1 => {
                let quota: f64 = read(&folder, "cpu.cfs_quota_us")?.parse().ok()?;
                let period: f64 = read(&folder, "cpu.cfs_period_us")?.parse().ok()?;
                (quota > 0.0).then_some(quota / period)
            }
        }))
    }

    /// How the quota held the group back so far; `None` where the kernel does not count.
    pub fn throttling(&self) -> Option<Throttling> {
        let text = read(&self.cpu.group, "cpu.stat")?;
        let field = |name| field(&text, name);
        let seconds = match self.version {
            Version::V2 => field("throttled_usec")? as f64 / 1e6,
            Version::V1 => field("throttled_time")? as f64 / 1e9,
        };
        Some(Throttling {
            periods: field("nr_throttled")?,
            seconds,
        })
    }

    /// The bytes of memory that the group uses.
    pub fn memory_usage_bytes(&self) -> Option<u64> {
        let file = match self.version {
            Version::V2 => "memory.current",
            Version::V1 => "memory.usage_in_bytes",
        };
        read(&self.memory.group, file)?.parse().ok()
    }

    /// The bytes of files that the kernel keeps in memory for the group, and gives up when it needs the place.
    pub fn file_cache_bytes(&self) -> Option<u64> {
        let text = read(&self.memory.group, "memory.stat")?;
        let names = match self.version {
            Version::V2 => ["active_file", "inactive_file"],
            Version::V1 => ["total_active_file", "total_inactive_file"],
        };
        Some(names.iter().filter_map(|name| field(&text, name)).sum())
    }

    /// The bytes of memory that the group may use; `None` without a limit.
    pub fn memory_limit_bytes(&self) -> Option<u64> {
        let file = match self.version {
            Version::V2 => "memory.max",
            Version::V1 => "memory.limit_in_bytes",
        };
        let limits = self
            .memory
            .upwards()
            .filter_map(|folder| read(&folder, file)?.parse::<u64>().ok());
        limits.filter(|&limit| limit < V1_UNLIMITED).min()
    }
}

impl Folder {
    /// Inside a container the membership may name a path of the host's, which is not there; then the root is ours.
    fn new(root: PathBuf, path: &str) -> Folder {
        let group = root.join(path.trim_start_matches('/'));
        let group = if group.is_dir() { group } else { root.clone() };
        Folder { root, group }
    }

    fn upwards(&self) -> impl Iterator<Item = PathBuf> {
        self.group
            .ancestors()
            .take_while(|folder| folder.starts_with(&self.root))
            .map(Path::to_owned)
    }
}

/// The number in the line `name number`.
fn field(text: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines();
    lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

fn read(folder: &Path, file: &str) -> Option<String> {
    Some(
        std::fs::read_to_string(folder.join(file))
            .ok()?
            .trim()
            .to_owned(),
    )
}

fn least(values: impl Iterator<Item = f64>) -> Option<f64> {
    values.reduce(f64::min)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(mount: &Path, file: &str, text: &str) {
        let path = mount.join(file);
        std::fs::create_dir_all(path.parent().expect("every file has a folder"))
            .expect("a temporary folder");
        std::fs::write(path, text).expect("a temporary file");
    }

    #[test]
    fn version_2_limits_are_the_least_on_the_way_up() {
        let mount = tempfile::tempdir().expect("a temporary folder");
        write(mount.path(), "cgroup.controllers", "cpu memory");
        write(mount.path(), "pods/cpu.max", "200000 100000\n");
        write(mount.path(), "pods/one/cpu.max", "max 100000\n");
        write(
            mount.path(),
            "pods/one/cpu.stat",
            "usage_usec 9\nnr_periods 7\nnr_throttled 3\nthrottled_usec 2500000\n",
        );
        write(mount.path(), "pods/one/memory.max", "268435456\n");
        write(mount.path(), "pods/one/memory.current", "1048576\n");
        write(
            mount.path(),
            "pods/one/memory.stat",
            "file 700\ninactive_file 400\nactive_file 200\n",
        );
        let group = Cgroup::read(mount.path(), "0::/pods/one\n").expect("version 2 is there");
        assert_eq!(group.cpu_quota_cores(), Some(2.0));
        assert_eq!(
            group.throttling(),
            Some(Throttling {
                periods: 3,
                seconds: 2.5
            })
        );
        assert_eq!(group.memory_limit_bytes(), Some(268435456));
        assert_eq!(group.memory_usage_bytes(), Some(1048576));
        assert_eq!(group.file_cache_bytes(), Some(600));
    }

    #[test]
    fn version_1_limits_are_read_inside_a_container() {
        let mount = tempfile::tempdir().expect("a temporary folder");
        write(mount.path(), "cpu,cpuacct/cpu.cfs_quota_us", "50000\n");
        write(mount.path(), "cpu,cpuacct/cpu.cfs_period_us", "100000\n");
        write(
            mount.path(),
            "cpu,cpuacct/cpu.stat",
            "nr_periods 1\nnr_throttled 1\nthrottled_time 500000000\n",
        );
        write(
            mount.path(),
            "memory/memory.limit_in_bytes",
            "9223372036854771712\n",
        );
        let membership = "4:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc\n";
        let group = Cgroup::read(mount.path(), membership).expect("version 1 is there");
        assert_eq!(group.cpu_quota_cores(), Some(0.5));
        assert_eq!(
            group.throttling(),
            Some(Throttling {
                periods: 1,
                seconds: 0.5
            })
        );
        assert_eq!(group.memory_limit_bytes(), None);
    }

    #[test]
    fn a_machine_without_groups_has_none() {
        let mount = tempfile::tempdir().expect("a temporary folder");
        assert!(Cgroup::read(mount.path(), "0::/\n").is_none());
    }
}

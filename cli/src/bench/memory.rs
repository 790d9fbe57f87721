//! What a process holds, from /proc.

/// Peak resident memory of a process (`self` or a pid), in MiB.
pub(crate) fn peak_rss_mb(process: &str) -> Option<f64> {
    field_mb(process, "VmHWM:")
}

/// Resident memory of a process now, in MiB.
pub(crate) fn rss_mb(process: &str) -> Option<f64> {
    field_mb(process, "VmRSS:")
}

fn field_mb(process: &str, field: &str) -> Option<f64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / 1024.0)
}

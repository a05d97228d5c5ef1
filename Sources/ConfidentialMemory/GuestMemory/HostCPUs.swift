internal import Glibc

/// How many CPUs work may be spread over.
enum HostCPUs {
    /// CPUs that are online, at least 1.
    static var online: Int { max(1, sysconf(Int32(_SC_NPROCESSORS_ONLN))) }
}

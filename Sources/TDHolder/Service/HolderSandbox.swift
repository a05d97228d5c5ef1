internal import CLinux
internal import KVM
internal import LinuxSystem
internal import ServiceSupport

/// The system calls that a serving holder may make.
enum HolderSandbox {
    /// KVM's request numbers are those that the KVM room itself calls with.
    static var filter: SystemCallFilter { .holder(ioctlRequests: KVMRequest.allNumbers) }

    /// Holds for all threads, now and later, and cannot be taken back.
    static func install() throws(LinuxError) { try filter.load() }
}

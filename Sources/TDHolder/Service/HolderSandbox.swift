internal import CLinux
internal import KVM
internal import LinuxSystem
internal import ServiceSupport

/// The system calls that a serving holder may make, and the files that it may reach.
enum HolderSandbox {
    /// KVM's request numbers are those that the KVM room itself calls with.
    static var filter: SystemCallFilter { .holder(ioctlRequests: KVMRequest.allNumbers) }

    /// For a holder that has opened /dev/kvm and its recording: those descriptors stay, and there are no others.
    /// - Parameter directory: where its socket is made and removed.
    static func fence(directory: String) -> FileSystemFence {
        FileSystemFence(
            rules: [
                .init("/proc", .read, because: "the host's memory and CPU, and what this process itself has"),
                .init("/sys", .read, because: "KVM's parameters, control groups"),
                .init(directory, [.makeSocket, .removeFile], because: "its own socket"),
            ], isolatingProcess: true)
    }

    /// Holds for the calling thread and those that it starts from now on, and cannot be taken back.
    static func enterFence(directory: String) throws(LinuxError) -> FileSystemFence.Outcome {
        try fence(directory: directory).enter()
    }

    /// Holds for all threads, now and later, and cannot be taken back.
    static func install() throws(LinuxError) { try filter.load() }
}

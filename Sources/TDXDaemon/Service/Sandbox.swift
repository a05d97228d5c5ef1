internal import LinuxSystem
internal import ServiceSupport

/// The system calls that tdxd may make from its start on, and its holders by inheritance.
enum Sandbox {
    /// tdxd itself never opens /dev/kvm. Its children do, under a filter of their own that lists each request; a filter
    /// is inherited, so all of KVM's requests (type 0xAE of ioctl numbers) must pass this one.
    static let filter: SystemCallFilter = {
        var filter = SystemCallFilter.daemon(ioctlRequests: [UInt32]())
        filter.rules.removeAll { $0.calls == [.name("ioctl")] && $0.conditions.isEmpty }
        filter.rules.append(
            SystemCallRule(
                ["ioctl"], when: [.init(argument: 1, mask: 0xff00, value: 0xae00)],
                because: "KVM's requests, which holders narrow down by number"))
        return filter
    }()

    /// For the only thread there is beside those that stay outside the fence.
    static func enter(_ fence: FileSystemFence) throws(StartFailure) -> FileSystemFence.Outcome {
        do throws(LinuxError) {
            let outcome = try fence.enter()
            try filter.load()
            return outcome
        } catch {
            throw StartFailure("tdxd cannot lock itself in: \(error)")
        }
    }
}

internal import LinuxSystem
internal import ServiceSupport

/// The system calls that tdxd may make, phase by phase.
enum Sandbox {
    /// From its start on: all that there is, which is also what its launcher, and so every holder, begins with.
    static let filter = SystemCallFilter.daemon()

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

    /// From the moment on at which the launcher runs, for every thread: no program is started any more, and nothing asked of KVM.
    static func narrow() throws(StartFailure) {
        do throws(LinuxError) { try SystemCallFilter.serving.load() } catch {
            throw StartFailure("tdxd cannot lock itself in: \(error)")
        }
    }
}

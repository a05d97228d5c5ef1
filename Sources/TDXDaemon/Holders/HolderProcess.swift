internal import LinuxSystem
internal import Synchronization

/// The process of one holder, held by pidfd: its number cannot come to mean another one.
final class HolderProcess: Sendable {
    let pid: Int32
    /// tdxd started it; otherwise it was found and somebody else reaps it.
    let isChild: Bool
    private let handle: ProcessHandle
    private let exit = Mutex<String?>(nil)

    init(_ handle: consuming ProcessHandle, isChild: Bool) {
        pid = handle.pid
        self.isChild = isChild
        self.handle = handle
    }

    /// Becomes readable when the process has ended.
    var pidfd: Int32 { handle.descriptor.rawValue }

    /// How it ended, in words; nil while it runs. A child is reaped with the first look after its end.
    func exitIfEnded() -> String? {
        exit.withLock { known in
            if known != nil { return known }
            guard (try? handle.hasEnded()) == true else { return nil }
            if isChild, let status = try? handle.exitIfEnded() {
                known = "holder process \(pid) \(status)"
            } else {
                known = "holder process \(pid) has ended"
            }
            return known
        }
    }

    /// Waits for the end.
    /// - Returns: How it ended; nil when it still runs after `limit`.
    func waitForEnd(_ limit: Duration) -> String? {
        _ = try? handle.waitUntilEnded(milliseconds: Int32(clamping: limit.nanosecondsClamped / 1_000_000))
        return exitIfEnded()
    }

    /// SIGTERM. Nothing happens when it has ended.
    func terminate() { try? handle.send(.terminate) }

    /// SIGKILL. Nothing happens when it has ended.
    func kill() { try? handle.send(.kill) }
}

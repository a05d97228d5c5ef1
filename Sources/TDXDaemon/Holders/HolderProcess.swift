internal import LinuxSystem
internal import Synchronization

/// The process of one holder, held by pidfd: its number cannot come to mean another one. It is not a child of this process: it was started by
/// the launcher, or found.
final class HolderProcess: Sendable {
    let pid: Int32
    private let handle: ProcessHandle
    /// Nil for one that was found.
    private let exit: HolderExit?
    /// Another program's, which has attached its TD: tdxd sends it no signal.
    let isAttached: Bool

    /// - Parameter exit: what the launcher reports; nil for a process that was found.
    init(_ handle: consuming ProcessHandle, exit: HolderExit? = nil, isAttached: Bool = false) {
        pid = handle.pid
        self.handle = handle
        self.exit = exit
        self.isAttached = isAttached
    }

    /// This tdxd had it started, and so was there all its life; otherwise a former one had.
    var wasStartedHere: Bool { exit != nil }

    /// Becomes readable when the process has ended.
    var pidfd: Int32 { handle.descriptor.rawValue }

    /// How long the launcher may take to report how a process ended.
    static let patience = Duration.seconds(2)

    /// How it ended, in words; nil while it runs. Of a process that the launcher has started and whose end it has not reported yet, this
    /// waits for that, at most `patience` in all.
    func exitIfEnded() -> String? {
        guard (try? handle.hasEnded()) == true else { return nil }
        return words(exit?.wait(Self.patience))
    }

    /// As `exitIfEnded()`, without waiting: for the event loop.
    /// - Parameter unknown: whether an end without its status will do.
    func exitIfKnown(evenUnknown unknown: Bool) -> String? {
        guard (try? handle.hasEnded()) == true else { return nil }
        guard let exit else { return words(nil) }
        switch exit.known {
        case .told(let how): return words(how)
        case .lost: return words(nil)
        case .awaited: return unknown ? words(nil) : nil
        }
    }

    private func words(_ exit: ProcessExit?) -> String {
        "\(isAttached ? "attached" : "holder") process \(pid) \(exit.map { "\($0)" } ?? "has ended")"
    }

    /// Waits for the end.
    /// - Returns: How it ended; nil when it still runs after `limit`.
    func waitForEnd(_ limit: Duration) -> String? {
        _ = try? handle.waitUntilEnded(milliseconds: Int32(clamping: limit.nanosecondsClamped / 1_000_000))
        return exitIfEnded()
    }

    /// The exit status of one that has ended; nil where it is not known.
    func status() -> ProcessExit? { exit?.wait(Self.patience) }

    /// SIGTERM. Nothing happens when it has ended, or is attached.
    func terminate() { if !isAttached { try? handle.send(.terminate) } }

    /// SIGKILL. Nothing happens when it has ended, or is attached.
    func kill() { if !isAttached { try? handle.send(.kill) } }
}

/// How a process ended that the launcher has started, as the launcher reports it.
final class HolderExit: Sendable {
    enum Known: Hashable, Sendable {
        /// It runs, or the launcher has not reported yet.
        case awaited
        case told(ProcessExit)
        /// It will not be reported any more.
        case lost
    }

    private let state = Monitor(Known.awaited)

    var known: Known { state.update(waking: .nobody) { $0 } }

    func tell(_ exit: ProcessExit) { state.update { $0 = .told(exit) } }

    func lose() { state.update { if $0 == .awaited { $0 = .lost } } }

    /// Waits until it is reported. After one wait in vain there is no other.
    /// - Returns: nil when it will not be reported, or was not in that time.
    func wait(_ limit: Duration) -> ProcessExit? {
        let known = state.wait(milliseconds: Int(limit.wholeMilliseconds)) { $0 == .awaited ? nil : $0 }
        guard let known else {
            lose()
            return nil
        }
        if case .told(let exit) = known { return exit }
        return nil
    }
}

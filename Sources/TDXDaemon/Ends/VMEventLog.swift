internal import HostVMs
internal import LinuxSystem
internal import Synchronization

/// KVM's announcements of VMs that appear and go, as far as this process has seen them.
///
/// KVM names the *thread* that created a VM, so the process is looked up when the VM appears. A TD's VM lives as long as
/// any of its guest_memfds, tdxd's duplicates included: its destruction is announced after those are closed, while
/// throw-away VMs of the same process are announced before.
final class VMEventLog: Sendable {
    struct Creator: Hashable, Sendable {
        var thread: Int32
        var process: Int32
    }

    private struct State {
        /// The latest last.
        var creators: [Creator] = []
        /// The latest last.
        var destructions: [(thread: Int32, at: MonotonicInstant)] = []
        /// Events were lost then: what was not seen may have happened.
        var lostAt: MonotonicInstant?
    }

    /// Entries that are kept of each kind; the oldest go.
    static let capacity = 4096

    private let state = Mutex(State())

    /// - Parameter process: of the creating thread, for a creation; see `process(of:)`.
    func note(_ event: VMEvent, process: Int32?, at moment: MonotonicInstant = .now) {
        state.withLock { state in
            switch event.kind {
            case .created:
                guard let process else { return }
                let creator = Creator(thread: event.creatorPID, process: process)
                state.creators.removeAll { $0.thread == creator.thread }
                state.creators.append(creator)
                if state.creators.count > Self.capacity { state.creators.removeFirst() }
            case .destroyed:
                state.destructions.append((event.creatorPID, moment))
                if state.destructions.count > Self.capacity { state.destructions.removeFirst() }
            }
        }
    }

    func noteLoss(at moment: MonotonicInstant = .now) { state.withLock { $0.lostAt = moment } }

    /// The threads of a process that were seen to create a VM. None: its events do not reach us, or it has no VM.
    func creators(in process: Int32) -> [Int32] {
        state.withLock { state in state.creators.filter { $0.process == process }.map(\.thread) }
    }

    /// When a VM that one of these threads created was destroyed, no sooner than `start`; nil if none was.
    func destruction(ofVMsBy threads: [Int32], since start: MonotonicInstant) -> MonotonicInstant? {
        state.withLock { $0.destructions.last { threads.contains($0.thread) && $0.at >= start }?.at }
    }

    func lostEvents(since start: MonotonicInstant) -> Bool {
        state.withLock { state in state.lostAt.map { $0 >= start } ?? false }
    }

    /// Forgets a process whose number may come again.
    func forget(process: Int32) {
        state.withLock { state in
            let threads = state.creators.filter { $0.process == process }.map(\.thread)
            state.creators.removeAll { $0.process == process }
            state.destructions.removeAll { threads.contains($0.thread) }
        }
    }

    /// The process that a thread belongs to, from /proc/TID/status; nil when the thread is gone or not to be seen.
    static func process(of thread: Int32) -> Int32? {
        guard let text = try? TextFile.read("/proc/\(thread)/status", limit: 64 << 10) else { return nil }
        return threadGroup(in: text)
    }

    /// The threads of a process; none when it is gone.
    static func threads(of process: Int32) -> [Int32] {
        ((try? TextFile.list("/proc/\(process)/task")) ?? []).compactMap { Int32($0) }
    }

    /// The number in the line `Tgid:` of a status file.
    static func threadGroup(in text: String) -> Int32? {
        for line in text.split(separator: "\n") where line.hasPrefix("Tgid:") {
            return Int32(line.dropFirst(5).drop { $0 == "\t" || $0 == " " })
        }
        return nil
    }
}

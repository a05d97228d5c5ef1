internal import ControlInterface
internal import LinuxSystem
internal import Synchronization
internal import Varlink

/// Calls of MapChanges that wait for a change. Nothing is kept for a reader but its call: what it has not read yet is in
/// the map's change stream, or no longer, and then it gets the whole map.
final class MapFollowers: Sendable {
    private struct Waiter: Sendable {
        var call: VarlinkCall
        var since: UInt64?
        var deadline: MonotonicInstant
    }

    private let holder: Holder
    private let loop: EventLoop
    private let waiting = Mutex<[Waiter]>([])

    init(_ holder: Holder, _ loop: EventLoop) {
        self.holder = holder
        self.loop = loop
    }

    /// Answers now or when there is something to tell, `wait` later at the latest. On the loop.
    func follow(_ call: VarlinkCall, since: UInt64?, wait: Duration) {
        let waiter = Waiter(call: call, since: since, deadline: .now + wait)
        guard !answer(waiter) else { return }
        waiting.withLock { $0.append(waiter) }
        loop.schedule(after: wait) { [self] in look() }
    }

    /// The map has changed, or there will be none any more. From any thread.
    func wake() {
        // Always by way of the loop, where calls are taken in: a call that has just found nothing and is not on the list yet
        // would miss the change otherwise.
        loop.perform { [self] in look() }
    }

    private func look() {
        let waiters = waiting.withLock { waiting in
            defer { waiting = [] }
            return waiting
        }
        let left = waiters.filter { !answer($0) }
        waiting.withLock { $0 += left }
    }

    /// - Returns: whether the call needs nobody any more.
    private func answer(_ waiter: Waiter) -> Bool {
        guard !waiter.call.isCancelled else { return true }
        do throws(ControlError) {
            if let changes = try holder.mapChanges(since: waiter.since) {
                waiter.call.reply(changes)
            } else if waiter.deadline <= .now, let since = waiter.since {
                waiter.call.reply(
                    HolderInterface.MapChanges.Reply(sequence: Int64(clamping: since), snapshot: false, runs: []))
            } else {
                return false
            }
        } catch {
            waiter.call.fail(error.reply(on: .holder))
        }
        return true
    }
}

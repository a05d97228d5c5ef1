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

    private struct State: Sendable {
        var waiting: [Waiter] = []
        /// When the loop looks by itself; nil when it does not. One timer serves all: readers of a busy map are answered
        /// long before their deadlines, and would leave a timer each.
        var nextLook: MonotonicInstant?
    }

    private let holder: Holder
    private let loop: EventLoop
    private let state = Mutex(State())

    init(_ holder: Holder, _ loop: EventLoop) {
        self.holder = holder
        self.loop = loop
    }

    /// Answers now or when something changed, `wait` later at the latest. On the loop.
    func follow(_ call: VarlinkCall, since: UInt64?, wait: Duration) {
        let waiter = Waiter(call: call, since: since, deadline: .now + wait)
        guard !answer(waiter) else { return }
        state.withLock { $0.waiting.append(waiter) }
        // Its place is free at once when its client leaves.
        call.onDisconnect { [weak self] in self?.look() }
        arm()
    }

    /// Makes sure that the loop looks when the first deadline comes.
    private func arm() {
        let due = state.withLock { state -> MonotonicInstant? in
            guard let first = state.waiting.map(\.deadline).min(), state.nextLook.map({ first < $0 }) ?? true else {
                return nil
            }
            state.nextLook = first
            return first
        }
        guard let due else { return }
        loop.schedule(after: max(due - .now, .zero)) { [self] in
            state.withLock { if $0.nextLook == due { $0.nextLook = nil } }
            look()
        }
    }

    /// The map has changed, or there will be none any more. From any thread.
    func wake() {
        // Always by way of the loop, where calls are taken in: a call that has just found nothing and is not on the list yet
        // would miss the change otherwise.
        loop.perform { [self] in look() }
    }

    private func look() {
        let waiters = state.withLock { state in
            defer { state.waiting = [] }
            return state.waiting
        }
        let left = waiters.filter { !answer($0) }
        state.withLock { $0.waiting += left }
        arm()
    }

    /// - Returns: whether the call is done.
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

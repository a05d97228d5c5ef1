internal import ControlInterface
internal import LinuxSystem
internal import Varlink

/// Calls of MapChanges that wait for a change: no thread waits with them, and one question to a TD's holder serves all that follow
/// its map.
///
/// A call is woken when the map may have changed beyond what it knows, or when its time is up; it then looks for itself.
final class MapWatches: @unchecked Sendable {
    // Sound: everything mutable is touched on the loop's thread only.
    enum Wake: Hashable, Sendable {
        /// There may be something beyond `since`, or the TD has ended.
        case look
        case timeUp
    }

    private struct Waiter {
        let number: UInt64
        let since: ChangeNumber
        let then: @Sendable (Wake) -> Void
        let timer: LoopTimer
    }

    /// One TD's map.
    private struct Watch {
        var waiters: [Waiter] = []
        /// The number from which on the holder has been asked for changes; nil while it is not asked.
        var askedSince: ChangeNumber?
        /// When it was asked last.
        var askedAt: MonotonicInstant?
    }

    /// How long one question to a holder waits. It is not withdrawn when the last call leaves: the next one finds it there.
    private static let questionPatience = ChangeWait.standard
    /// How long a holder that did not answer is left alone.
    private static let pause = Duration.milliseconds(100)
    /// Between two questions to a holder: one that answers at once whatever it is asked keeps no one busy.
    private static let interval = Duration.milliseconds(20)

    private let loop: EventLoop
    /// Key: the TD's id.
    private var watches: [String: Watch] = [:]
    private var nextNumber: UInt64 = 1

    init(_ loop: EventLoop) { self.loop = loop }

    /// Waits for a change after `since`. On the loop.
    ///
    /// - Parameters:
    ///   - silence: what the holder may take to answer once something has changed.
    ///   - then: called once on the loop, unless the client leaves before.
    func wait(
        on holder: LiveHolder, since: ChangeNumber, until deadline: MonotonicInstant, silence: Duration,
        for call: VarlinkCall,
        then: @escaping @Sendable (Wake) -> Void
    ) {
        let id = holder.id
        let number = nextNumber
        nextNumber += 1
        let timer = loop.schedule(after: max(deadline - .now, .zero)) { [weak self] in
            if let waiter = self?.remove(number, of: id) { waiter.then(.timeUp) }
        }
        watches[id, default: Watch()].waiters.append(Waiter(number: number, since: since, then: then, timer: timer))
        call.onDisconnect { [weak self] in _ = self?.remove(number, of: id) }
        // Another call may have received what this one waits for, or name a number that does not exist.
        if let asked = watches[id]?.askedSince, asked > since {
            loop.schedule(after: Self.pause) { [weak self] in
                if let waiter = self?.remove(number, of: id) { waiter.then(.look) }
            }
        }
        ask(holder, since: since, silence: silence)
    }

    /// Calls that wait now. On the loop.
    var count: Int { watches.values.reduce(0) { $0 + $1.waiters.count } }

    private func remove(_ number: UInt64, of id: String) -> Waiter? {
        guard let index = watches[id]?.waiters.firstIndex(where: { $0.number == number }) else { return nil }
        let waiter = watches[id]?.waiters.remove(at: index)
        waiter?.timer.cancel()
        dropIfUnused(id)
        return waiter
    }

    private func dropIfUnused(_ id: String) {
        if let watch = watches[id], watch.waiters.isEmpty, watch.askedSince == nil { watches[id] = nil }
    }

    private func ask(_ holder: LiveHolder, since: ChangeNumber, silence: Duration) {
        let id = holder.id
        guard let watch = watches[id], watch.askedSince == nil else { return }
        watches[id]?.askedSince = since
        let rest = watch.askedAt.map { $0 + Self.interval - .now } ?? .zero
        guard rest > .zero else { return send(holder, since: since, silence: silence) }
        loop.schedule(after: rest) { [weak self] in self?.send(holder, since: since, silence: silence) }
    }

    private func send(_ holder: LiveHolder, since: ChangeNumber, silence: Duration) {
        watches[holder.id]?.askedAt = .now
        let isAsked = holder.link.followMap(since: since, wait: Self.questionPatience, silence: silence, on: loop) {
            [weak self] result in
            self?.answered(holder, result, silence: silence)
        }
        if !isAsked { lookSoon(holder) }
    }

    private func answered(
        _ holder: LiveHolder, _ result: Result<HolderInterface.MapChanges.Reply, ControlError>, silence: Duration
    ) {
        guard case .success(let reply) = result else { return lookSoon(holder) }
        let id = holder.id
        watches[id]?.askedSince = nil
        // A whole map comes where the numbers begin anew, too.
        wake(id) { reply.snapshot || $0.since.rawValue < reply.sequence }
        if let next = watches[id]?.waiters.map(\.since).min() {
            ask(holder, since: next, silence: silence)
        } else {
            dropIfUnused(id)
        }
    }

    /// Everybody looks for itself, and hears why the holder does not answer.
    private func lookSoon(_ holder: LiveHolder) {
        let id = holder.id
        loop.schedule(after: Self.pause) { [weak self] in
            guard let self else { return }
            watches[id]?.askedSince = nil
            wake(id) { _ in true }
            dropIfUnused(id)
        }
    }

    private func wake(_ id: String, where isMeant: (Waiter) -> Bool) {
        let meant = watches[id]?.waiters.filter(isMeant) ?? []
        watches[id]?.waiters.removeAll(where: isMeant)
        for waiter in meant {
            waiter.timer.cancel()
            waiter.then(.look)
        }
    }
}

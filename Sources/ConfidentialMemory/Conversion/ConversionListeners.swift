internal import Glibc
internal import LinuxSystem
public import MemoryUnits
internal import Synchronization

/// What a listener hears of a chunk.
public enum ConversionMoment: Hashable, Sendable {
    /// The old side is about to be discarded: let go of it (unmap, stop DMA), then answer.
    case leaving
    /// The range is on this side and ready for use: empty after a conversion, as it was where the conversion was taken
    /// back.
    case settled
}

/// One message to a listener, to be answered once.
public final class ConversionNotice: Sendable {
    public let moment: ConversionMoment
    public let range: GuestPhysicalRange
    public let side: MemorySide
    private let answered = Mutex<Bool?>(nil)

    init(_ moment: ConversionMoment, _ range: GuestPhysicalRange, _ side: MemorySide) {
        self.moment = moment
        self.range = range
        self.side = side
    }

    /// Answers from any thread: `true` for done, `false` for a refusal, which ends the listening. Only the first answer
    /// counts.
    public func answer(_ isDone: Bool) {
        answered.withLock { answered in if answered == nil { answered = isDone } }
    }

    var answer: Bool? { answered.withLock { $0 } }
}

/// Others who use a guest's memory and follow its conversions. None of them can hold up the guest: who refuses, or has not
/// answered in time, is cut off and hears no more.
public final class ConversionListeners: Sendable {
    private struct Listener: Sendable {
        var id: UInt64
        var name: String
        var milliseconds: Double
        var notify: @Sendable (ConversionNotice) -> Void
        var cutOff: @Sendable (String) -> Void
    }

    private struct State {
        var listeners: [Listener] = []
        var nextID: UInt64 = 1
        /// Names of those that were cut off, in order, with why.
        var lost: [String] = []
    }

    private let state = Mutex(State())

    init() {}

    /// Adds a listener.
    /// - Parameters:
    ///   - milliseconds: how long it may take to answer a notice.
    ///   - notify: hears of a chunk, on the converting thread; it must return at once and answer the notice from any
    ///     thread. It must not convert or stop the TD itself.
    ///   - cutOff: gets the reason why it gets no more.
    /// - Returns: what to give to `remove`.
    public func add(
        name: String, milliseconds: Double, notify: @escaping @Sendable (ConversionNotice) -> Void,
        cutOff: @escaping @Sendable (String) -> Void = { _ in }
    ) -> UInt64 {
        state.withLock { state in
            defer { state.nextID += 1 }
            state.listeners.append(
                Listener(
                    id: state.nextID, name: name, milliseconds: milliseconds, notify: notify, cutOff: cutOff))
            return state.nextID
        }
    }

    public func remove(_ id: UInt64) { state.withLock { $0.listeners.removeAll { $0.id == id } } }

    /// There is no listener.
    var isEmpty: Bool { state.withLock { $0.listeners.isEmpty } }

    /// Who was cut off, and why.
    public var lost: [String] { state.withLock { $0.lost } }

    /// Notifies all listeners and waits for their answers, each no longer than its deadline.
    func tell(_ moment: ConversionMoment, _ range: GuestPhysicalRange, _ side: MemorySide) {
        let listeners = state.withLock { $0.listeners }
        guard !listeners.isEmpty else { return }
        let start = MonotonicInstant.now
        // All work at the same time; then each is waited for.
        let notices = listeners.map { listener in
            let notice = ConversionNotice(moment, range, side)
            listener.notify(notice)
            return notice
        }
        for (listener, notice) in zip(listeners, notices) {
            let deadline = start.adding(milliseconds: listener.milliseconds)
            while notice.answer == nil, MonotonicInstant.now < deadline { usleep(50) }
            switch notice.answer {
            case true: break
            case false: cutOff(listener, "\(listener.name) refused to follow \(range)")
            case nil: cutOff(listener, "\(listener.name) did not answer within \(listener.milliseconds) ms")
            }
        }
    }

    private func cutOff(_ listener: Listener, _ why: String) {
        state.withLock { state in
            state.listeners.removeAll { $0.id == listener.id }
            state.lost.append(why)
        }
        listener.cutOff(why)
    }
}

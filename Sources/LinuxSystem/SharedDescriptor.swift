internal import Synchronization

/// A descriptor that several threads use and one of them closes: the number stays valid for every call under way.
///
/// Closing while a call is under way closes when that call returns, so a number that the kernel has given to another
/// file meanwhile is never used.
public final class SharedDescriptor: Sendable {
    private struct State: ~Copyable {
        var number: Int32
        var users = 0
        var closing = false
    }

    private let state: Mutex<State>
    private let whenClosed: @Sendable () -> Void

    /// - Parameter whenClosed: runs once, right before the number is closed and after the last call under way: for what
    ///   must go with the descriptor, such as a mapping.
    public init(_ descriptor: consuming OwnedDescriptor, whenClosed: @escaping @Sendable () -> Void = {}) {
        state = Mutex(State(number: descriptor.relinquish()))
        self.whenClosed = whenClosed
    }

    deinit { close() }

    /// Runs `body` with the number; nil once the descriptor is closed.
    public func withDescriptor<Result, Failure>(
        _ body: (Int32) throws(Failure) -> Result
    ) throws(Failure) -> Result? {
        let number: Int32? = state.withLock { state in
            guard !state.closing else { return nil }
            state.users += 1
            return state.number
        }
        guard let number else { return nil }
        defer { leave() }
        return try body(number)
    }

    /// Closes now, or when the last call under way returns. A second call does nothing.
    /// - Returns: whether the descriptor is closed on return.
    @discardableResult
    public func close() -> Bool {
        let finished: (number: Int32?, closed: Bool) = state.withLock { state in
            state.closing = true
            return Self.takeIfUnused(&state)
        }
        if let number = finished.number { finish(number) }
        return finished.closed
    }

    /// Whether `close()` was called.
    public var isClosed: Bool { state.withLock { $0.closing } }

    private func leave() {
        let finished: (number: Int32?, closed: Bool) = state.withLock { state in
            state.users -= 1
            return state.closing ? Self.takeIfUnused(&state) : (nil, false)
        }
        if let number = finished.number { finish(number) }
    }

    private func finish(_ number: Int32) {
        whenClosed()
        _ = OwnedDescriptor(taking: number)
    }

    private static func takeIfUnused(_ state: inout State) -> (number: Int32?, closed: Bool) {
        guard state.users == 0 else { return (nil, false) }
        guard state.number >= 0 else { return (nil, true) }
        defer { state.number = -1 }
        return (state.number, true)
    }
}
